// Writes SAELens 6 directories: our own store, and exports for SAELens to read.
#include "absl/strings/match.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/architectures.h"
#include "server/sae/folds.h"
#include "server/sae/sae_files.h"
#include "server/tensor/gate.h"
#include "server/tensor/weights.h"

namespace featurescope {
namespace {

// The version whose layout is written.
constexpr char kWrittenVersion[] = "6.18.0";

using nlohmann::json;

json Metadata(const SaeConfig& config, const SaeRecognition& found) {
  json metadata = {{"sae_lens_version", kWrittenVersion}, {"model_name", config.model_name},
                   {"hook_name", config.hook_name},       {"hook_head_index", nullptr},
                   {"prepend_bos", config.prepend_bos},   {"saved_by", "featurescope"}};
  if (config.context_size > 0) metadata["context_size"] = config.context_size;
  if (!config.hook_name_out.empty()) {
    metadata["hook_name_out"] = config.hook_name_out;
    metadata["hook_head_index_out"] = nullptr;
  }
  if (found.center_writing_weights.has_value()) {
    metadata["model_from_pretrained_kwargs"] = {
        {"center_writing_weights", *found.center_writing_weights}};
  }
  return metadata;
}

json ConfigJson(const SaeConfig& config, const SaeRecognition& found) {
  const absl::string_view mode = NormalizeActivationsName(config.normalize_activations);
  json cfg = {{"architecture", config.architecture},
              {"d_in", config.d_in},
              {"d_sae", config.d_sae},
              {"dtype", "float32"},
              {"device", "cpu"},
              {"apply_b_dec_to_input", config.apply_b_dec_to_input},
              {"normalize_activations", std::string(mode)},
              {"reshape_activations", config.reshape_hook_z ? "hook_z" : "none"}};
  if (IsTranscoder(config.architecture)) cfg["d_out"] = config.d_out;
  if (config.k > 0) cfg["k"] = config.k;
  if (config.rescale_acts_by_decoder_norm || config.k > 0) {
    cfg["rescale_acts_by_decoder_norm"] = config.rescale_acts_by_decoder_norm;
  }
  if (absl::EndsWith(config.architecture, "batchtopk")) {
    cfg["k"] = config.k;
    cfg["selects_over_whole_batch"] = config.whole_batch;
  }
  if (!config.group_sizes.empty()) {
    json widths = json::array();
    int64_t width = 0;
    for (const int64_t size : config.group_sizes) widths.push_back(width += size);
    cfg["matryoshka_widths"] = std::move(widths);
  }
  cfg["metadata"] = Metadata(config, found);
  return cfg;
}

std::vector<std::pair<std::string, torch::Tensor>> Tensors(const SaeConfig& config,
                                                           const SaeParameters& parameters) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  const bool batch = absl::EndsWith(config.architecture, "batchtopk");
  if (batch) {
    // SAELens' training classes have it in double precision, and 0 before it is tracked.
    const torch::Tensor threshold =
        parameters.threshold.defined() ? parameters.threshold : torch::zeros({});
    tensors.emplace_back("topk_threshold", threshold.to(torch::kFloat64));
  }
  for (const SaeParameterSpec& spec : kSaeParameterSpecs) {
    const torch::Tensor& tensor = parameters.*spec.tensor;
    if (!tensor.defined() || (batch && spec.bit == kThreshold)) continue;
    tensors.emplace_back(std::string(spec.name), tensor);
  }
  return tensors;
}

absl::Status Write(const SaeConfig& config, const SaeParameters& parameters,
                   const SaeRecognition& found, absl::string_view directory) {
  return TorchGate("saving an SAE", [&]() -> absl::Status {
    RETURN_IF_ERROR(
        SaveTensors(JoinPath(directory, "sae_weights.safetensors"), Tensors(config, parameters)));
    return WriteFileAtomically(JoinPath(directory, "cfg.json"), ConfigJson(config, found).dump(2));
  });
}

// What SAELens would read as something else, or not at all.
absl::Status CheckExpressible(const SaeConfig& config, const SaeParameters& parameters) {
  if (config.whole_batch && !parameters.threshold.defined()) {
    return Unimplemented(
        "this SAE selects over whole batches and has no threshold; SAELens uses BatchTopK SAEs "
        "outside of training by their threshold only");
  }
  if (!FindSaeArchitecture(config.architecture)->saelens &&
      !absl::EndsWith(config.architecture, "batchtopk")) {
    return Unimplemented("SAELens 6 has no architecture for a ", config.architecture, " SAE (",
                         DescribeActivation(config), ")");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SaveSae(const Sae& sae, absl::string_view directory) {
  return Write(sae.config(), sae.parameters(), sae.recognition(), directory);
}

absl::Status ExportToSaeLens(const Sae& sae, absl::string_view directory) {
  SaeConfig config = sae.config();
  SaeParameters parameters = sae.parameters();
  RETURN_IF_ERROR(CheckExpressible(config, parameters));
  const bool batch = absl::EndsWith(config.architecture, "batchtopk");
  RETURN_IF_ERROR(TorchGate("folding an SAE", [&] {
    if (config.rescale_acts_by_decoder_norm && config.architecture != "topk") {
      FoldDecoderNorms(&parameters);
      config.rescale_acts_by_decoder_norm = false;
    }
    if (batch) {
      parameters.threshold = parameters.threshold.expand({config.d_sae}).contiguous();
      config.architecture = "jumprelu";
      config.k = 0;
      config.whole_batch = false;
      config.group_sizes.clear();
    }
  }));
  return Write(config, parameters, sae.recognition(), directory);
}

}  // namespace featurescope
