// Reads Llama Scope as published in 2024: hyperparams.json and checkpoints/final.safetensors.
//
// Outside of training OpenMOSS folds the dataset's scale, then the decoder's norms, and then
// compares with one threshold for all features, in the units of raw inputs:
//
//   hidden_pre   = x W_E + b_E / s_in              feature_acts = h (h > jump_relu_threshold)
//   h            = hidden_pre |W_D row|            x_hat        = feature_acts W_D / |W_D row| +
//   b_D / s_out
//
// Source: He et al. 2024, arXiv:2410.20526; OpenMOSS/Language-Model-SAEs of November 2024.
#include "absl/strings/match.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/folds.h"
#include "server/sae/openmoss_reader.h"
#include "server/sae/reader.h"

namespace featurescope {
namespace {

constexpr char kConfigName[] = "hyperparams.json";
// In the order in which OpenMOSS looks.
constexpr const char* kWeightNames[] = {
    "sae_weights.safetensors",        "sae_weights.pt",
    "checkpoints/pruned.safetensors", "checkpoints/pruned.pt",
    "checkpoints/final.safetensors",  "checkpoints/final.pt",
};

absl::StatusOr<std::vector<std::string>> Find(const SaePath& path) {
  std::vector<std::string> none;
  // The weights may be named themselves: .../checkpoints/final.safetensors.
  if (!path.file.empty() && path.file != kConfigName) {
    for (const char* above : {"../", ""}) {
      const std::string config = path.At(absl::StrCat(above, kConfigName));
      if (FileExists(config)) return std::vector<std::string>{path.At(path.file), config};
    }
    return none;
  }
  if (!path.Has(kConfigName)) return none;
  for (const char* name : kWeightNames) {
    if (FileExists(path.At(name))) {
      return std::vector<std::string>{path.At(name), path.At(kConfigName)};
    }
  }
  return NotFound(path.At(kWeightNames[4]), " is missing");
}

absl::StatusOr<SaeContent> Read(const std::vector<std::string>& files, const LoadSaeOptions&,
                                torch::Device device) {
  ASSIGN_OR_RETURN(const nlohmann::json parsed, ReadJsonFile(files[1]));
  ASSIGN_OR_RETURN(OpenMossConfig cfg, ParseOpenMossConfig(parsed, files[1]));
  const bool jumprelu = absl::StartsWith(cfg.config.architecture, "jumprelu");
  if (jumprelu && !cfg.jump_relu_threshold.has_value()) {
    return InvalidArgument(files[1], ": act_fn is jumprelu, but jump_relu_threshold is not > 0");
  }
  if (cfg.norm == OpenMossNorm::kDatasetWise && !cfg.average_norm_in.has_value()) {
    return InvalidArgument(files[1],
                           ": norm_activation is dataset-wise, but "
                           "dataset_average_activation_norm is missing");
  }
  SaeContent content;
  content.config = cfg.config;
  content.recognition = cfg.recognition;
  content.recognition.format = "Llama Scope";
  ASSIGN_OR_RETURN(WeightSource weights, OpenWeights(files));
  if (weights.values() != nullptr) RETURN_IF_ERROR(weights.Enter("sae"));
  RETURN_IF_ERROR(LoadOpenMossWeights(weights, cfg, device, &content.parameters));
  RETURN_IF_ERROR(weights.CheckAllUsed("those of Llama Scope"));
  RETURN_IF_ERROR(FoldOpenMossNorm(cfg, &content).status());
  if (cfg.sparsity_include_decoder_norm) {
    FoldDecoderNorms(&content.parameters);
    content.recognition.folds.push_back("decoder norms: rows of W_dec have norm 1");
  }
  if (jumprelu) {
    content.parameters.threshold =
        torch::full({cfg.config.d_sae}, *cfg.jump_relu_threshold,
                    torch::TensorOptions(torch::kFloat32).device(device));
  }
  content.recognition.dtype = weights.dtype();
  return content;
}

}  // namespace

const SaeFormat kLlamaScopeFormat = {"Llama Scope", Find, Read};

}  // namespace featurescope
