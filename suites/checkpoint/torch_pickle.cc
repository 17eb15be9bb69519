#include "suites/checkpoint/torch_pickle.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <utility>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/zip_archive.h"

namespace suites {
namespace {

struct Value {
  enum class Kind : std::uint8_t {
    kNone,
    kBool,
    kInt,
    kString,
    kSequence,
    kDict,
    kGlobal,
    kStorage,
    kTensor,
    kWrapper,
    kOpaque
  };
  Kind kind = Kind::kNone;
  std::int64_t number = 0;           // kInt, kBool; kStorage: elements
  std::string text;                  // kString; kGlobal: its name; kStorage: dtype; kWrapper: its type
  std::vector<Value*> items;         // kSequence; kDict: keys and values in turn
  std::span<const std::byte> bytes;  // kStorage
  StoredTensor tensor;               // kTensor; kWrapper: only its true shape
};

constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kStorages = {{
    {"torch.BFloat16Storage", "BF16"},
    {"torch.HalfStorage", "F16"},
    {"torch.FloatStorage", "F32"},
    {"torch.IntStorage", "I32"},
    {"torch.LongStorage", "I64"},
    {"torch.CharStorage", "I8"},
    {"torch.ByteStorage", "U8"},
}};
constexpr std::string_view kTilePacked = "torchao.quantization.Int4TilePackedTo4dTensor";
// Before torchao 0.14: an AffineQuantizedTensor around an implementation, which
// moved to a module of its own in 0.6.
constexpr std::string_view kAffine = "torchao.dtypes.affine_quantized_tensor.AffineQuantizedTensor";
constexpr std::array<std::string_view, 2> kAffineImpls = {
    "torchao.dtypes.uintx.tensor_core_tiled_layout.TensorCoreTiledAQTTensorImpl",
    "torchao.dtypes.affine_quantized_tensor.TensorCoreTiledAQTTensorImpl",
};
constexpr std::string_view kZeroPointDomain = "torchao.quantization.quant_primitives.ZeroPointDomain";
constexpr std::int64_t kZeroPointFloat = 2;  // ZeroPointDomain.FLOAT
// Settings that are objects without tensors: made, given attributes, never looked into.
constexpr std::array<std::string_view, 2> kLayouts = {
    "torchao.dtypes.uintx.tensor_core_tiled_layout.TensorCoreTiledLayout",
    "torchao.dtypes.affine_quantized_tensor.TensorCoreTiledLayout",
};
constexpr std::array<std::string_view, 17> kGlobals = {
    "torch.int32",
    "collections.OrderedDict",
    "torch.bfloat16",
    "torch.float16",
    "torch.float32",
    "torch.device",
    "torch.serialization._get_layout",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_wrapper_subclass",
    "torch._tensor._rebuild_from_type_v2",
    kTilePacked,
    kAffine,
    kAffineImpls[0],
    kAffineImpls[1],
    kZeroPointDomain,
    kLayouts[0],
    kLayouts[1],
};

template <std::size_t N>
bool IsOneOf(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// What is copied by a call is bounded, so that a small program cannot take much
// memory.
constexpr std::size_t kMaxDimensions = 16;
constexpr std::size_t kMaxParts = 16;

// The pickle machine (Python, Lib/pickletools.py) of one file. Values live in
// one arena, so that lists that hold themselves cost nothing.
class Machine {
 public:
  Machine(std::string file, const ZipArchive& archive, std::string prefix, std::span<const std::byte> program)
      : file_(std::move(file)), archive_(archive), prefix_(std::move(prefix)), program_(program) {}

  // The dict of the checkpoint: names to kTensor and kWrapper.
  const Value& Run() {
    while (true) {
      const auto opcode = static_cast<char>(Take(1)[0]);
      if (opcode == '.') break;
      Step(opcode);
    }
    if (stack_.empty()) Fail("nothing is left on the stack");
    if (stack_.back()->kind != Value::Kind::kDict) Fail("it does not hold a dict of tensors");
    return *stack_.back();
  }

  [[noreturn]] void Fail(const std::string& reason) const { throw CheckpointError(file_ + ": pickle: " + reason); }

 private:
  using Kind = Value::Kind;

  std::span<const std::byte> Take(std::size_t size) {
    if (size > program_.size() - position_) Fail("it ends early; the file is damaged, download it again");
    position_ += size;
    return program_.subspan(position_ - size, size);
  }
  template <typename T>
  T Number() {
    T value;
    std::memcpy(&value, Take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string Line() {
    std::string line;
    for (char c = Number<char>(); c != '\n'; c = Number<char>()) line += c;
    return line;
  }

  Value* New(Kind kind) {
    arena_.push_back(std::make_unique<Value>());
    arena_.back()->kind = kind;
    return arena_.back().get();
  }
  Value* NewInt(std::int64_t number) {
    Value* value = New(Kind::kInt);
    value->number = number;
    return value;
  }
  Value* NewSequence(std::vector<Value*> items) {
    Value* value = New(Kind::kSequence);
    value->items = std::move(items);
    return value;
  }
  Value* Pop() {
    if (stack_.empty() || (!marks_.empty() && marks_.back() >= stack_.size())) Fail("the stack is empty");
    Value* value = stack_.back();
    stack_.pop_back();
    return value;
  }
  std::vector<Value*> PopCount(std::size_t count) {
    std::vector<Value*> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = Pop();
    return items;
  }
  std::vector<Value*> PopToMark() {
    if (marks_.empty()) Fail("no mark on the stack");
    const std::size_t mark = marks_.back();
    marks_.pop_back();
    std::vector<Value*> items(stack_.begin() + static_cast<std::ptrdiff_t>(mark), stack_.end());
    stack_.resize(mark);
    return items;
  }
  Value* Top(Kind kind) {
    Value* top = Pop();
    if (top->kind != kind) Fail("an opcode meets a value of another type");
    stack_.push_back(top);
    return top;
  }
  const Value& Item(const Value& sequence, std::size_t index, Kind kind) const {
    if (sequence.kind != Kind::kSequence || index >= sequence.items.size() || sequence.items[index]->kind != kind) {
      Fail("a call has arguments of another type than torch.save() gives it");
    }
    return *sequence.items[index];
  }

  void Step(char opcode);
  Value* Global(const std::string& name);
  Value* Storage(const Value& id);
  Value* Call(const std::string& name, const Value& arguments);
  Value* Tensor(const Value& arguments);
  std::vector<std::int64_t> Sizes(const Value& sequence) const;

  std::string file_;
  const ZipArchive& archive_;
  std::string prefix_;
  std::span<const std::byte> program_;
  std::size_t position_ = 0;
  std::vector<std::unique_ptr<Value>> arena_;
  std::vector<Value*> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint32_t, Value*> memo_;
};

void Machine::Step(char opcode) {
  const auto put = [&](std::uint32_t index) {
    Value* value = Pop();
    stack_.push_back(value);
    memo_[index] = value;
  };
  const auto get = [&](std::uint32_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) Fail("the memo has no entry " + std::to_string(index));
    stack_.push_back(found->second);
  };
  switch (opcode) {
    case '\x80':  // PROTO
      if (const auto version = Number<std::uint8_t>(); version != 2) {
        Fail("protocol " + std::to_string(version) + " is not read, only 2");
      }
      break;
    case '}':
      stack_.push_back(New(Kind::kDict));
      break;
    case ']':
    case ')':
      stack_.push_back(New(Kind::kSequence));
      break;
    case '(':
      marks_.push_back(stack_.size());
      break;
    case 'N':
      stack_.push_back(New(Kind::kNone));
      break;
    case '\x88':
    case '\x89':
      stack_.push_back(New(Kind::kBool));
      stack_.back()->number = opcode == '\x88';
      break;
    case 'J':
      stack_.push_back(NewInt(Number<std::int32_t>()));
      break;
    case 'K':
      stack_.push_back(NewInt(Number<std::uint8_t>()));
      break;
    case 'M':
      stack_.push_back(NewInt(Number<std::uint16_t>()));
      break;
    case '\x8a': {  // LONG1: two's complement, as many bytes as it says
      const auto digits = Take(Number<std::uint8_t>());
      if (digits.size() > 8) Fail("a number does not fit 64 bits");
      std::uint64_t number =
          !digits.empty() && (digits.back() & std::byte{0x80}) != std::byte{0} ? ~std::uint64_t{0} : 0;
      std::memcpy(&number, digits.data(), digits.size());
      stack_.push_back(NewInt(static_cast<std::int64_t>(number)));
      break;
    }
    case 'X': {  // BINUNICODE
      const auto text = Take(Number<std::uint32_t>());
      stack_.push_back(New(Kind::kString));
      stack_.back()->text.assign(reinterpret_cast<const char*>(text.data()), text.size());
      break;
    }
    case 'c': {  // GLOBAL
      const std::string module = Line();
      stack_.push_back(Global(module + "." + Line()));
      break;
    }
    case 'q':
      put(Number<std::uint8_t>());
      break;
    case 'r':
      put(Number<std::uint32_t>());
      break;
    case 'h':
      get(Number<std::uint8_t>());
      break;
    case 'j':
      get(Number<std::uint32_t>());
      break;
    case 't':
      stack_.push_back(NewSequence(PopToMark()));
      break;
    case '\x85':
      stack_.push_back(NewSequence(PopCount(1)));
      break;
    case '\x86':
      stack_.push_back(NewSequence(PopCount(2)));
      break;
    case '\x87':
      stack_.push_back(NewSequence(PopCount(3)));
      break;
    case 'e':
    case 'a': {  // APPENDS, APPEND
      const std::vector<Value*> items = opcode == 'e' ? PopToMark() : PopCount(1);
      Value* list = Top(Kind::kSequence);
      list->items.insert(list->items.end(), items.begin(), items.end());
      break;
    }
    case 'u':
    case 's': {  // SETITEMS, SETITEM
      const std::vector<Value*> items = opcode == 'u' ? PopToMark() : PopCount(2);
      if (items.size() % 2 != 0) Fail("a key without a value");
      Value* dict = Top(Kind::kDict);
      dict->items.insert(dict->items.end(), items.begin(), items.end());
      break;
    }
    case 'Q':
      stack_.push_back(Storage(*Pop()));
      break;     // BINPERSID
    case 'R': {  // REDUCE
      const Value* arguments = Pop();
      const Value* function = Pop();
      if (function->kind != Kind::kGlobal || arguments->kind != Kind::kSequence) Fail("it calls what is no function");
      stack_.push_back(Call(function->text, *arguments));
      break;
    }
    case '\x81': {  // NEWOBJ: a layout
      Pop();
      const Value* type = Pop();
      if (type->kind != Kind::kGlobal || !IsOneOf(kLayouts, type->text)) Fail("it makes an object of no known class");
      stack_.push_back(New(Kind::kOpaque));
      break;
    }
    case 'b': {  // BUILD: the attributes of an OrderedDict, "_metadata", or of a layout
      Pop();
      Value* object = Pop();
      if (object->kind != Kind::kDict && object->kind != Kind::kOpaque) {
        Fail("an opcode meets a value of another type");
      }
      stack_.push_back(object);
      break;
    }
    default:
      Fail("opcode " + std::to_string(static_cast<unsigned char>(opcode)) + " is not one that torch.save() writes");
  }
}

Value* Machine::Global(const std::string& name) {
  const auto is_storage = [&](const auto& storage) { return storage.first == name; };
  if (!IsOneOf(kGlobals, name) && std::none_of(kStorages.begin(), kStorages.end(), is_storage)) {
    Fail("the global " + Quoted(name) + " is not one of those that are read; nothing in the file was executed");
  }
  Value* value = New(Kind::kGlobal);
  value->text = name;
  return value;
}

// ('storage', type, key, location, elements); the bytes are the entry data/KEY.
Value* Machine::Storage(const Value& id) {
  if (Item(id, 0, Kind::kString).text != "storage") Fail("a persistent id is not a storage");
  const std::string& type = Item(id, 1, Kind::kGlobal).text;
  const std::string& key = Item(id, 2, Kind::kString).text;
  const std::int64_t elements = Item(id, 4, Kind::kInt).number;
  const auto* found = std::find_if(kStorages.begin(), kStorages.end(), [&](const auto& s) { return s.first == type; });
  if (found == kStorages.end()) Fail(Quoted(type) + " is not a storage");
  const auto entry = archive_.entries.find(prefix_ + "data/" + key);
  if (entry == archive_.entries.end()) Fail("no entry for the storage " + Quoted(key));
  Value* storage = New(Kind::kStorage);
  storage->text = found->second;
  storage->number = elements;
  storage->bytes = entry->second;
  const auto size = static_cast<std::uint64_t>(BitsOfDtype(storage->text) / 8);
  if (elements < 0 || static_cast<std::uint64_t>(elements) > storage->bytes.size() / size) {
    Fail("storage " + Quoted(key) + " has " + std::to_string(storage->bytes.size()) + " bytes for " +
         std::to_string(elements) + " elements of " + storage->text);
  }
  return storage;
}

std::vector<std::int64_t> Machine::Sizes(const Value& sequence) const {
  if (sequence.items.size() > kMaxDimensions)
    Fail("a tensor has more than " + std::to_string(kMaxDimensions) + " dimensions");
  std::vector<std::int64_t> sizes;
  for (std::size_t i = 0; i < sequence.items.size(); ++i) sizes.push_back(Item(sequence, i, Kind::kInt).number);
  return sizes;
}

// _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks).
Value* Machine::Tensor(const Value& arguments) {
  const Value& storage = Item(arguments, 0, Kind::kStorage);
  const std::int64_t offset = Item(arguments, 1, Kind::kInt).number;
  const std::vector<std::int64_t> shape = Sizes(Item(arguments, 2, Kind::kSequence));
  const std::vector<std::int64_t> stride = Sizes(Item(arguments, 3, Kind::kSequence));
  if (shape.size() != stride.size()) Fail("a tensor has another number of sizes than of strides");
  std::int64_t elements = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] < 0) Fail("a tensor has a negative size");
    if (shape[i] > 1 && stride[i] != elements) Fail("a tensor of shape " + ShapeText(shape) + " is not contiguous");
    if (__builtin_mul_overflow(elements, shape[i], &elements)) Fail("the size of a tensor does not fit 64 bits");
  }
  if (offset < 0 || offset > storage.number || elements > storage.number - offset) {
    Fail("a tensor of shape " + ShapeText(shape) + " lies outside its storage");
  }
  const auto size = static_cast<std::size_t>(BitsOfDtype(storage.text) / 8);
  Value* tensor = New(Kind::kTensor);
  tensor->tensor = {
      storage.text, shape,
      storage.bytes.subspan(static_cast<std::size_t>(offset) * size, static_cast<std::size_t>(elements) * size),
      archive_.file};
  return tensor;
}

Value* Machine::Call(const std::string& name, const Value& arguments) {
  if (name == "collections.OrderedDict" && arguments.items.empty()) return New(Kind::kDict);
  if (name == "torch.device" || name == "torch.serialization._get_layout") return New(Kind::kOpaque);
  if (name == kZeroPointDomain) {
    Value* domain = New(Kind::kInt);
    domain->number = Item(arguments, 0, Kind::kInt).number;
    return domain;
  }
  if (name == "torch._utils._rebuild_tensor_v2") return Tensor(arguments);
  // (_rebuild_wrapper_subclass, type, (type, dtype, size, stride, ...), {inner tensors})
  if (name == "torch._tensor._rebuild_from_type_v2" &&
      Item(arguments, 0, Kind::kGlobal).text == "torch._utils._rebuild_wrapper_subclass") {
    const Value& inner = Item(arguments, 2, Kind::kSequence);
    Value* wrapper = New(Kind::kWrapper);
    wrapper->text = Item(arguments, 1, Kind::kGlobal).text;
    wrapper->tensor.shape = Sizes(Item(inner, 2, Kind::kSequence));
    const std::vector<Value*>& parts = Item(arguments, 3, Kind::kDict).items;
    if (parts.size() > 2 * kMaxParts) Fail("a tensor has more than " + std::to_string(kMaxParts) + " parts");
    wrapper->items = parts;
    return wrapper;
  }
  Fail("a call of " + Quoted(name) + " is not one that torch.save() writes");
}

}  // namespace

// Fills the table that OpenTorchPickle() returns.
class TorchPickleTable : public TensorTable {
 public:
  explicit TorchPickleTable(const std::filesystem::path& path) {
    path_ = path;
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) path_ = path / "pytorch_model.bin";
    if (path_ == path || std::filesystem::exists(path_, error)) {
      AddFile(path_);
      return;
    }
    path_ = path / "pytorch_model.bin.index.json";
    if (!std::filesystem::exists(path_, error)) {
      throw CheckpointError(path.string() + ": neither pytorch_model.bin nor pytorch_model.bin.index.json is there");
    }
    const ShardIndex shards = ReadShardIndex(path_);
    for (const std::string& file : shards.files) AddFile(path / file);
    for (const auto& [name, file] : shards.file_of) {
      if (!Contains(name) && !metadata_.contains(name)) {
        throw CheckpointError(path_.string() + ": tensor " + Quoted(name) + " is not in shard " + Quoted(file));
      }
    }
  }

 private:
  void AddFile(const std::filesystem::path& file) {
    const ZipArchive archive = OpenZip(file);
    constexpr std::string_view kProgram = "/data.pkl";
    const auto program = std::find_if(archive.entries.begin(), archive.entries.end(),
                                      [&](const auto& entry) { return entry.first.ends_with(kProgram); });
    if (program == archive.entries.end()) {
      throw CheckpointError(file.string() + ": no data.pkl in the archive; it was not written by torch.save()");
    }
    const std::string prefix = program->first.substr(0, program->first.size() - kProgram.size() + 1);
    if (const auto order = archive.entries.find(prefix + "byteorder"); order != archive.entries.end()) {
      const std::string text(reinterpret_cast<const char*>(order->second.data()), order->second.size());
      if (text != "little") throw CheckpointError(file.string() + ": byte order " + Quoted(text) + " is not read");
    }
    Machine machine(file.string(), archive, prefix, program->second);
    const Value& dict = machine.Run();
    for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      if (dict.items[i]->kind != Value::Kind::kString) machine.Fail("the key of a tensor is not a string");
      AddTensor(machine, dict.items[i]->text, *dict.items[i + 1]);
    }
  }

  void Add(const Machine& machine, const std::string& name, const StoredTensor& tensor) {
    if (!tensors_.emplace(name, tensor).second) machine.Fail("tensor " + Quoted(name) + " is there twice");
  }

  void AddTensor(const Machine& machine, const std::string& name, const Value& value) {
    if (value.kind == Value::Kind::kTensor) return Add(machine, name, value.tensor);
    constexpr std::string_view kWeight = ".weight";
    const bool affine = value.kind == Value::Kind::kWrapper && value.text == kAffine;
    if (value.kind != Value::Kind::kWrapper || (value.text != kTilePacked && !affine) || !name.ends_with(kWeight)) {
      machine.Fail(Quoted(name) +
                   " is neither a tensor, nor an Int4TilePackedTo4dTensor, nor an "
                   "AffineQuantizedTensor");
    }
    if (affine) return AddAffine(machine, name, value);
    const std::string prefix = name.substr(0, name.size() - kWeight.size()) + "._weight_";
    for (std::size_t i = 0; i + 1 < value.items.size(); i += 2) {
      const Value& part = *value.items[i + 1];
      if (part.kind == Value::Kind::kTensor) Add(machine, prefix + value.items[i]->text, part.tensor);
    }
    AddShape(name, value);
  }

  // The bytes of an Int4TilePackedTo4dTensor under other names.
  void AddAffine(const Machine& machine, const std::string& name, const Value& value) {
    const auto fail = [&](const char* reason) { machine.Fail(Quoted(name) + ", an AffineQuantizedTensor, " + reason); };
    const Value* impl = Part(value, "tensor_impl");
    if (impl == nullptr || impl->kind != Value::Kind::kWrapper || !IsOneOf(kAffineImpls, impl->text)) {
      fail("holds no TensorCoreTiledAQTTensorImpl");
    }
    if (const Value* domain = Part(value, "zero_point_domain");
        domain != nullptr && (domain->kind != Value::Kind::kInt || domain->number != kZeroPointFloat)) {
      fail("has zero points that are not floats");
    }
    if (const Value* transposed = Part(*impl, "transposed"); transposed != nullptr && transposed->number != 0) {
      fail("is transposed, which is not built");
    }
    const std::string prefix = name.substr(0, name.rfind('.')) + "._weight_";
    for (const auto& [from, to] :
         {std::pair("packed_weight", "qdata"), std::pair("scale_and_zero", "scale_and_zero")}) {
      const Value* part = Part(*impl, from);
      if (part == nullptr || part->kind != Value::Kind::kTensor) fail("lacks packed_weight or scale_and_zero");
      Add(machine, prefix + to, part->tensor);
    }
    AddShape(name, value);
  }

  static const Value* Part(const Value& wrapper, std::string_view name) {
    for (std::size_t i = 0; i + 1 < wrapper.items.size(); i += 2) {
      if (wrapper.items[i]->kind == Value::Kind::kString && wrapper.items[i]->text == name) return wrapper.items[i + 1];
    }
    return nullptr;
  }

  void AddShape(const std::string& name, const Value& value) {
    metadata_[name] =
        nlohmann::json{{"_type", "Int4TilePackedTo4dTensor"}, {"_data", {{"shape", value.tensor.shape}}}}.dump();
  }
};

TensorTable OpenTorchPickle(const std::filesystem::path& path) { return TorchPickleTable(path); }

}  // namespace suites
