#include "gtest_determinism/digest.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#define XXH_INLINE_ALL
#include "xxhash/xxhash.h"

namespace gtest_determinism {
namespace {

class Hasher {
 public:
  Hasher() { XXH3_128bits_reset(&state_); }
  void Update(const void* data, std::size_t bytes) {
    if (bytes != 0) XXH3_128bits_update(&state_, data, bytes);
  }
  void UpdateU64(std::uint64_t value) {
    unsigned char bytes[8];
    for (int i = 0; i < 8; ++i) bytes[i] = static_cast<unsigned char>(value >> (8 * i));
    Update(bytes, sizeof(bytes));
  }
  Digest Finish() const { return Canonical(XXH3_128bits_digest(&state_)); }
  static Digest Canonical(XXH128_hash_t hash) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    Digest digest;
    std::copy_n(canonical.digest, digest.size(), digest.begin());
    return digest;
  }

 private:
  XXH3_state_t state_;
};

// Appends the digest of each chunk.
void AppendChunks(std::vector<unsigned char>& level, const unsigned char* p, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += kDigestChunkBytes) {
    const Digest chunk = Hasher::Canonical(XXH3_128bits(p + at, std::min(kDigestChunkBytes, bytes - at)));
    level.insert(level.end(), chunk.begin(), chunk.end());
  }
}

// From the digests of the chunks of `bytes` bytes.
Digest FinishTree(std::vector<unsigned char> level, std::size_t bytes) {
  while (level.size() > kDigestChunkBytes) {
    std::vector<unsigned char> next;
    AppendChunks(next, level.data(), level.size());
    level.swap(next);
  }
  Hasher hasher;
  hasher.Update(level.data(), level.size());
  hasher.UpdateU64(bytes);
  return hasher.Finish();
}

}  // namespace

Digest TreeDigest(const void* data, std::size_t bytes) {
  std::vector<unsigned char> level;
  AppendChunks(level, static_cast<const unsigned char*>(data), bytes);
  return FinishTree(std::move(level), bytes);
}

Digest MemorySpace::DigestOf(const void* data, std::size_t bytes) const {
  if (this == &HostMemory()) return TreeDigest(data, bytes);
  constexpr std::size_t kPiece = 256 * kDigestChunkBytes;
  std::vector<unsigned char> piece(std::min(kPiece, bytes)), level;
  for (std::size_t at = 0; at < bytes; at += kPiece) {
    const std::size_t n = std::min(kPiece, bytes - at);
    CopyToHost(piece.data(), static_cast<const unsigned char*>(data) + at, n);
    AppendChunks(level, piece.data(), n);
  }
  return FinishTree(std::move(level), bytes);
}

Digest DigestOf(const Trace& trace) {
  Hasher hasher;
  for (const NamedBits& part : trace) {
    hasher.UpdateU64(part.name.size());
    hasher.Update(part.name.data(), part.name.size());
    const auto dtype = static_cast<unsigned char>(part.view.dtype);
    hasher.Update(&dtype, 1);
    hasher.UpdateU64(part.view.shape.size());
    for (const std::int64_t extent : part.view.shape) hasher.UpdateU64(static_cast<std::uint64_t>(extent));
    const Digest bytes = part.view.space->DigestOf(part.view.data, part.view.bytes);
    hasher.Update(bytes.data(), bytes.size());
  }
  hasher.UpdateU64(trace.size());
  return hasher.Finish();
}

std::string ToHex(const Digest& digest) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace gtest_determinism
