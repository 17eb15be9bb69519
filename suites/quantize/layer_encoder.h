// Codes and scales of a linear layer, tile by tile, in the layout of a format.
#ifndef SUITES_QUANTIZE_LAYER_ENCODER_H_
#define SUITES_QUANTIZE_LAYER_ENCODER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "suites/quantize/group_quantizer.h"
#include "suites/quantize/linear_formats.h"

namespace suites::quantize {

inline constexpr std::int64_t kTileRows = 128;  // outputs of a tile, the last one excepted

// Outputs [n0, n0 + rows) of a linear layer, quantized.
struct Tile {
  std::int64_t n0 = 0, rows = 0, k = 0, groups = 0;
  // Code of (r, i) at r * stride + i. The stride is no multiple of 4096: codes of
  // one input would else fall into the same lines of the cache.
  std::int64_t stride = 0;
  std::vector<std::uint8_t> codes = {};
  std::vector<GroupScale> scales = {};  // [rows, groups]
};

// Where tiles are put together; tiles touch different bytes, so that Put() may be
// called from several threads.
class LayerEncoder {
 public:
  virtual ~LayerEncoder() = default;
  virtual void Put(const Tile& tile) = 0;
  // After all tiles: the tensors in file order.
  virtual std::vector<Bytes> Take() = 0;
};
// Memory that tiles will write is not touched here.
std::unique_ptr<LayerEncoder> MakeLayerEncoder(OutputFormat format, std::int64_t k, std::int64_t n,
                                               std::int64_t group_size);

}  // namespace suites::quantize

#endif  // SUITES_QUANTIZE_LAYER_ENCODER_H_
