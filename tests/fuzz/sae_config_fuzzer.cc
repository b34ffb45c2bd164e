// Any JSON as the configuration of an SAE, in each project's way: refused, or sizes within bounds.
// The first byte says which: d, a, b, c for SAELens, sparsify, OpenMOSS, dictionary_learning.

#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "server/formats/json.h"
#include "server/sae/dictionary_learning_config.h"
#include "server/sae/hook_names.h"
#include "server/sae/openmoss_config.h"
#include "server/sae/saelens_config.h"
#include "server/sae/sparsify_config.h"

namespace featurescope {
namespace {

void Check(bool holds) {
  if (!holds) abort();
}

void CheckSizes(const SaeConfig& config) {
  Check(config.d_in >= 1 && config.d_in <= kMaxSaeWidth);
  Check(config.d_sae >= 1 && config.d_sae <= kMaxSaeWidth);
  Check(config.d_out >= 1 && config.d_out <= kMaxSaeWidth);
  Check(config.k >= 0 && config.k <= config.d_sae);
  int64_t sum = 0;
  for (const int64_t size : config.group_sizes) {
    Check(size >= 1);
    sum += size;
  }
  Check(sum == 0 || sum == config.d_sae);
  Check(!(IsTranscoder(config.architecture) && config.apply_b_dec_to_input));
  Check(!DescribeActivation(config).empty());
}

void Run(uint8_t which, absl::string_view text) {
  // Names are parsed as they are.
  (void)GemmaScopePath(text);
  (void)OpenAiPath(text);
  for (const ModelFamily family :
       {ModelFamily::kUnknown, ModelFamily::kGpt2, ModelFamily::kGemma2}) {
    (void)ModuleHook(text, family, which % 2 == 1);
    (void)DictionaryLearningHook(text, family);
  }
  const absl::StatusOr<nlohmann::json> cfg = ParseJson(text, "cfg.json");
  if (!cfg.ok()) return;
  switch (which % 4) {
    case 0:
      if (const auto parsed = ParseSaeLensConfig(*cfg, "cfg.json"); parsed.ok()) {
        CheckSizes(parsed->config);
        Check(!parsed->recognition.format.empty());
      }
      break;
    case 1:
      if (const auto parsed = ParseSparsifyConfig(*cfg, "layers.3.mlp", "cfg.json"); parsed.ok()) {
        CheckSizes(parsed->config);
      }
      break;
    case 2:
      if (const auto parsed = ParseOpenMossConfig(*cfg, "config.json"); parsed.ok()) {
        CheckSizes(parsed->config);
        Check(!parsed->average_norm_in.has_value() || *parsed->average_norm_in > 0);
        Check(!parsed->jump_relu_threshold.has_value() || *parsed->jump_relu_threshold > 0);
      }
      break;
    default:
      if (const auto parsed = ParseDictionaryLearningConfig(*cfg, "config.json"); parsed.ok()) {
        Check(parsed->activation_dim >= 0 && parsed->dict_size >= 0 && parsed->k >= 0);
      }
      break;
  }
}

}  // namespace
}  // namespace featurescope

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  featurescope::Run(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
