#include "server/model/architecture.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr const Architecture* kArchitectures[] = {&kGpt2,  &kGptNeox, &kLlama, &kMistral,
                                                  &kQwen2, &kQwen3,   &kGemma, &kGemma2};

}  // namespace

const Architecture* FindArchitecture(absl::string_view model_type) {
  for (const Architecture* architecture : kArchitectures) {
    if (architecture->model_type == model_type) return architecture;
  }
  return nullptr;
}

std::string SupportedArchitectures() {
  return absl::StrJoin(kArchitectures, ", ", [](std::string* out, const Architecture* a) {
    absl::StrAppend(out, a->model_type);
  });
}

absl::StatusOr<ActivationKind> ParseActivation(absl::string_view name, absl::string_view key,
                                               absl::string_view what) {
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") {
    return ActivationKind::kGeluTanh;
  }
  if (name == "gelu") return ActivationKind::kGeluExact;
  if (name == "silu" || name == "swish") return ActivationKind::kSilu;
  if (name == "relu") return ActivationKind::kRelu;
  return Unimplemented(what, ": ", key, " \"", name,
                       "\" is not supported; supported: gelu, gelu_new, gelu_pytorch_tanh, "
                       "gelu_fast, silu, swish, relu");
}

absl::Status ReadUnembedding(const ModelConfig& config, absl::string_view head,
                             WeightReader& reader, ModelWeights* weights) {
  if (config.tied_embeddings) {
    weights->unembed = weights->embed.t();
    reader.Skip(absl::StrCat(head, ".weight"));  // some checkpoints hold the tied matrix twice
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const LinearWeights linear,
                   reader.ReadLinearTransposed(head, config.d_model, config.d_vocab, false));
  weights->unembed = linear.weight;
  return absl::OkStatus();
}

}  // namespace featurescope
