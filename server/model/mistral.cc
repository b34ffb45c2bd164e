// Mistral: Llama without biases whose queries see a window of the last tokens.
//
// Source: HF transformers, modeling_mistral.py; Jiang et al. 2023, arXiv:2310.06825. Later releases
// have "sliding_window": null; a file that does not mention it means 4096, HF's default.
#include "server/base/status.h"
#include "server/model/architecture.h"
#include "server/model/llama_family.h"

namespace featurescope {
namespace {

absl::StatusOr<ModelConfig> ReadConfig(ConfigReader& reader) {
  LlamaFamilyDefaults defaults;
  defaults.n_ctx = 131072;
  ASSIGN_OR_RETURN(ModelConfig config, ReadLlamaFamilyConfig(reader, defaults));
  RETURN_IF_ERROR(ReadWindows(
      reader, 4096, [](int64_t) { return true; }, &config));
  return config;
}

}  // namespace

const Architecture kMistral = {"mistral", ReadConfig, ReadLlamaFamilyWeights};

}  // namespace featurescope
