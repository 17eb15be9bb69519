// The 128-bit digest that names patterns.
//
// TreeDigest of n bytes is made level by level. The bytes are cut into chunks of
// 4096, the last of which may be shorter, and each chunk is replaced by its 16
// bytes of X; that is done once, and again while more than 4096 bytes are left.
// With b_1 for what is left then, the digest is
//
//   X(b_1 . n)
//
// where X is XXH3-128 with seed 0 in its canonical, big-endian form of 16
// bytes, "." concatenates, and n is a little-endian u64. So up to 1 MiB there is
// one level, up to 256 MiB there are two. The chunks of a level are independent
// of each other, so that a GPU computes them in parallel and gets the same
// digest; their order counts.
//
// XXH3: github.com/Cyan4973/xxHash, doc/xxhash_spec.md. It is not a
// cryptographic hash. The chance that two given different patterns share a
// digest is about 2^-128; where bytes can be kept, bytes decide.
#ifndef GTEST_DETERMINISM_DIGEST_H_
#define GTEST_DETERMINISM_DIGEST_H_

#include <cstddef>
#include <string>

#include "gtest_determinism/bits.h"

namespace gtest_determinism {

inline constexpr std::size_t kDigestChunkBytes = 4096;

// Of bytes in host memory.
Digest TreeDigest(const void* data, std::size_t bytes);

// X over, for each part in order: length of the name (u64), the name, the dtype
// (u8, the value of the enum), the rank (u64), each extent (i64), TreeDigest of
// the part's bytes; then the number of parts (u64). All integers little-endian.
// Traces that differ only in a name, a dtype or a shape have different digests.
Digest DigestOf(const Trace& trace);

std::string ToHex(const Digest& digest);  // 32 lower-case digits

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_DIGEST_H_
