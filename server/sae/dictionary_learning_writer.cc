// Writes ae.pt and config.json for dictionary_learning's load_dictionary.
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/folds.h"
#include "server/sae/sae_files.h"
#include "server/tensor/array_tensor.h"
#include "server/tensor/gate.h"

namespace featurescope {
namespace {

using nlohmann::json;
using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

absl::Status CheckExpressible(const SaeConfig& config) {
  if (config.normalize_activations != NormalizeActivations::kNone &&
      config.normalize_activations != NormalizeActivations::kExpectedAverageOnlyIn) {
    return Unimplemented("dictionary_learning has no normalisation ",
                         NormalizeActivationsName(config.normalize_activations));
  }
  const absl::string_view name = config.architecture;
  const bool known = name == "standard" || name == "topk" || name == "batchtopk" ||
                     name == "matryoshka_batchtopk" || name == "jumprelu" || name == "gated";
  if (!known) {
    return Unimplemented("dictionary_learning has no class for a ", name, " SAE (",
                         DescribeActivation(config), ")");
  }
  if (name != "standard" && config.apply_b_dec_to_input == (name == "jumprelu")) {
    return Unimplemented("dictionary_learning's ", name, " encoder takes x ",
                         name == "jumprelu" ? "as it is, this SAE takes x - b_dec"
                                            : "- b_dec, this SAE takes x as it is");
  }
  return absl::OkStatus();
}

absl::string_view DictClassOf(const SaeConfig& config) {
  const absl::string_view name = config.architecture;
  if (name == "topk") return "AutoEncoderTopK";
  if (name == "batchtopk") return "BatchTopKSAE";
  if (name == "matryoshka_batchtopk") return "MatryoshkaBatchTopKSAE";
  if (name == "jumprelu") return "JumpReluAutoEncoder";
  if (name == "gated") return "GatedAutoEncoder";
  return config.apply_b_dec_to_input ? "AutoEncoder" : "AutoEncoderNew";
}

// In the order of the class's own state_dict.
NamedTensors Tensors(const SaeConfig& config, const SaeParameters& p) {
  const std::string& name = config.architecture;
  const torch::Tensor k = torch::full({}, config.k, torch::kInt32);
  const torch::Tensor threshold = p.threshold.defined() ? p.threshold : torch::full({}, -1.0F);
  if (name == "jumprelu") {
    return {{"W_enc", p.W_enc},
            {"b_enc", p.b_enc},
            {"W_dec", p.W_dec},
            {"b_dec", p.b_dec},
            {"threshold", p.threshold}};
  }
  if (name == "matryoshka_batchtopk") {
    return {{"W_enc", p.W_enc},
            {"b_enc", p.b_enc},
            {"W_dec", p.W_dec},
            {"b_dec", p.b_dec},
            {"k", k},
            {"threshold", threshold},
            {"group_sizes", torch::tensor(config.group_sizes, torch::kInt64)}};
  }
  const torch::Tensor encoder = p.W_enc.t().contiguous();
  const torch::Tensor decoder = p.W_dec.t().contiguous();
  if (name == "gated") {
    return {{"decoder_bias", p.b_dec}, {"r_mag", p.r_mag},          {"gate_bias", p.b_gate},
            {"mag_bias", p.b_mag},     {"encoder.weight", encoder}, {"decoder.weight", decoder}};
  }
  if (name == "topk" || name == "batchtopk") {
    return {{"b_dec", p.b_dec},          {"k", k},
            {"threshold", threshold},    {"decoder.weight", decoder},
            {"encoder.weight", encoder}, {"encoder.bias", p.b_enc}};
  }
  if (config.apply_b_dec_to_input) {
    return {{"bias", p.b_dec},
            {"encoder.weight", encoder},
            {"encoder.bias", p.b_enc},
            {"decoder.weight", decoder}};
  }
  return {{"encoder.weight", encoder},
          {"encoder.bias", p.b_enc},
          {"decoder.weight", decoder},
          {"decoder.bias", p.b_dec}};
}

json ConfigJson(const SaeConfig& config) {
  json trainer = {{"dict_class", std::string(DictClassOf(config))},
                  {"activation_dim", config.d_in},
                  {"dict_size", config.d_sae},
                  {"lm_name", config.model_name},
                  {"submodule_name", config.hook_name},
                  {"wandb_name", "featurescope"}};
  if (config.k > 0) trainer["k"] = config.k;
  if (!config.group_sizes.empty()) trainer["group_sizes"] = config.group_sizes;
  json result = {{"trainer", std::move(trainer)}, {"buffer", json::object()}};
  if (config.context_size > 0) result["buffer"]["ctx_len"] = config.context_size;
  return result;
}

}  // namespace

absl::Status ExportToDictionaryLearning(const Sae& sae, absl::string_view directory) {
  SaeConfig config = sae.config();
  SaeParameters parameters = sae.parameters();
  RETURN_IF_ERROR(CheckExpressible(config));
  return TorchGate("exporting an SAE", [&]() -> absl::Status {
    if (config.rescale_acts_by_decoder_norm) FoldDecoderNorms(&parameters);
    RETURN_IF_ERROR(SaveStateDict(JoinPath(directory, "ae.pt"), Tensors(config, parameters)));
    return WriteFileAtomically(JoinPath(directory, "config.json"), ConfigJson(config).dump(2));
  });
}

}  // namespace featurescope
