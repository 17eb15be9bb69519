// measure_upload: how quickly a safetensors checkpoint reaches a device, beside the
// rates of the disk, the page cache and the bus.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "suites/checkpoint/device_upload.h"
#include "suites/checkpoint/safetensors.h"
#include "suites/checkpoint/tensor_view.h"
#include "suites/checkpoint/upload_rates.h"
#include "suites/startup/arguments.h"

namespace {

using suites::TransferRate;

void Print(const char* what, std::uint64_t bytes, double seconds) {
  std::printf("%-46s %8.3f GB %8.3f s %8.2f GB/s\n", what, static_cast<double>(bytes) / 1e9, seconds,
              seconds > 0 ? static_cast<double>(bytes) / 1e9 / seconds : 0);
  std::fflush(stdout);
}
void Print(const char* what, const TransferRate& rate) { Print(what, rate.bytes, rate.seconds); }

std::vector<at::Tensor> Views(const suites::SafetensorsReader& reader) {
  std::vector<at::Tensor> tensors;
  for (const auto& [name, stored] : reader.tensors()) tensors.push_back(suites::TensorView(name, stored));
  return tensors;
}

// In the way of a loader: so many tensors at a time.
std::vector<at::Tensor> UploadAll(suites::DeviceUploader* uploader, const std::vector<at::Tensor>& tensors,
                                  std::size_t at_once) {
  std::vector<at::Tensor> uploaded;
  for (std::size_t i = 0; i < tensors.size(); i += at_once) {
    const std::size_t count = std::min(at_once, tensors.size() - i);
    for (at::Tensor& tensor : uploader->Upload(std::span(tensors).subspan(i, count))) {
      uploaded.push_back(std::move(tensor));
    }
  }
  uploader->Wait();
  return uploaded;
}

int Run(int argc, char** argv) {
  CLI::App app("Times the upload of a safetensors checkpoint, beside the rates of its disk and bus.", "measure_upload");
  std::string model, device_text = "cpu";
  suites::UploadOptions options;
  std::size_t at_once = 36;
  bool check = false, cold = true;
  app.add_option("model", model, "Folder or .safetensors file")->required()->check(CLI::ExistingPath);
  app.add_option("--device", device_text, "cpu, cuda or cuda:N")->check(suites::DeviceName())->capture_default_str();
  app.add_option("--threads", options.threads, "That read; 0: as many as there are cores, at most 16")
      ->check(CLI::Range(0, 256))
      ->capture_default_str();
  app.add_option("--buffers", options.buffers, "Pinned buffers")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--buffer-bytes", options.buffer_bytes, "Of each")
      ->check(CLI::Range(std::size_t{4096}, std::size_t{1} << 30))
      ->capture_default_str();
  app.add_option("--at-once", at_once, "Tensors of one call")->check(CLI::Range(1, 100000))->capture_default_str();
  app.add_flag("--check", check, "Compare every tensor afterwards; the bytes must be equal");
  app.add_flag("--cold,!--no-cold", cold, "Also with the files dropped from the page cache");
  if (const auto exit_code = suites::ParseArguments(app, {argv + 1, argv + argc})) return *exit_code;

  const at::Device device(device_text);
  const int threads = options.threads > 0 ? options.threads
                                          : static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 16u));
  const auto files = suites::WeightFiles(model);
  const auto drop = [&](const char* before) {
    suites::DropFromPageCache(files);
    std::printf("dropped before %s: %.3f GB are still in the page cache\n", before,
                static_cast<double>(suites::ResidentBytes(files)) / 1e9);
  };
  Print("bus: one pinned copy of 256 MiB, best of 5", suites::BusRate(device, std::size_t{256} << 20, 5));
  if (cold) {
    drop("reading");
    Print("disk: files read once, cold", suites::ReadRate(files, threads, options.buffer_bytes));
  }
  Print("page cache: files read again", suites::ReadRate(files, threads, options.buffer_bytes));
  {
    suites::DeviceUploader uploader(device, options);
    if (cold) {
      drop("the upload");
      const suites::SafetensorsReader reader = suites::SafetensorsReader::Open(model);
      UploadAll(&uploader, Views(reader), at_once);
      Print("upload, cold", uploader.stats().bytes, uploader.stats().seconds);
    }
    for (const char* what : {"upload, page cache", "upload, page cache, again"}) {
      const suites::SafetensorsReader reader = suites::SafetensorsReader::Open(model);
      const std::vector<at::Tensor> views = Views(reader);
      const suites::UploadStats before = uploader.stats();
      const std::vector<at::Tensor> uploaded = UploadAll(&uploader, views, at_once);
      const suites::UploadStats after = uploader.stats();
      Print(what, after.bytes - before.bytes, after.seconds - before.seconds);
      if (!check) continue;
      for (std::size_t i = 0; i < views.size(); ++i) {
        const at::Tensor back = uploaded[i].cpu();
        if (std::memcmp(back.const_data_ptr(), views[i].const_data_ptr(), views[i].nbytes()) != 0) {
          throw std::runtime_error("a tensor came out different");
        }
      }
      std::printf("checked: %zu tensors, the same bytes\n", views.size());
      check = false;
    }
  }
  {
    const suites::SafetensorsReader reader = suites::SafetensorsReader::Open(model);
    const std::vector<at::Tensor> views = Views(reader);
    std::uint64_t bytes = 0;
    const auto start = std::chrono::steady_clock::now();
    for (const at::Tensor& view : views) {
      const at::Tensor copy = device.is_cpu() ? view.clone() : view.to(device);
      bytes += view.nbytes();
    }
    Print("for comparison: tensor.to(device), page cache", bytes,
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("largest resident memory %.3f GB\n", static_cast<double>(usage.ru_maxrss) * 1024 / 1e9);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return suites::RunMain("measure_upload", [&] { return Run(argc, argv); });
}
