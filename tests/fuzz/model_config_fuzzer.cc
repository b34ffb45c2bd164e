// Any text as a model's config.json: refused, or sizes within bounds that fit each other.

#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "server/model/config.h"
#include "server/model/limits.h"

namespace featurescope {
namespace {

void Check(bool holds) {
  if (!holds) abort();
}

void CheckSizes(const ModelConfig& config) {
  Check(config.n_layers >= 1 && config.n_layers <= kMaxLayers);
  for (int64_t width : {config.d_model, config.d_head, config.d_mlp}) {
    Check(width >= 1 && width <= kMaxWidth);
  }
  Check(config.n_kv_heads >= 1 && config.n_heads <= kMaxHeads);
  Check(config.n_heads % config.n_kv_heads == 0);
  Check(config.d_vocab >= 1 && config.d_vocab <= kMaxVocabulary);
  Check(config.n_ctx >= 1 && config.n_ctx <= kMaxContext);
  Check(std::isfinite(config.attention_scale) && config.attention_scale > 0);
  Check(config.windows.empty() || std::ssize(config.windows) == config.n_layers);
  for (int64_t window : config.windows) Check(window >= 0 && window <= kMaxContext);
  if (config.positions == PositionKind::kRotary) {
    Check(config.rotary.rotary_dims >= 2 && config.rotary.rotary_dims % 2 == 0);
    Check(config.rotary.rotary_dims <= config.d_head);
  }
  for (uint32_t id : config.eos_ids) Check(id < config.d_vocab);
}

}  // namespace
}  // namespace featurescope

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace featurescope;
  const auto config =
      ParseModelConfig(absl::string_view(reinterpret_cast<const char*>(data), size), "config.json");
  if (config.ok()) CheckSizes(*config);
  return 0;
}
