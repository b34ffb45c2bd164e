// Reads what OpenMOSS' library lm_saes writes since 2025: config.json and safetensors.
//
// Training computes, with inputs and targets scaled by s_in and s_out,
//
//   hidden_pre   = x s_in W_E + b_E
//   feature_acts = hidden_pre (hidden_pre |W_D row| > threshold)   the norm: if
//   x_hat s_out  = feature_acts W_D + b_D                          sparsity_include_decoder_norm
//
// The scales are folded so that features have the scale of raw inputs, and the thresholds with
// them.
#include "absl/strings/match.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/folds.h"
#include "server/sae/openmoss_reader.h"
#include "server/sae/reader.h"

namespace featurescope {
namespace {

constexpr char kConfigName[] = "config.json";

absl::StatusOr<std::vector<std::string>> Find(const SaePath& path) {
  std::vector<std::string> none;
  if (!path.Has(kConfigName)) return none;
  std::string weights;
  if (!path.file.empty() && path.file != kConfigName) {
    weights = path.file;
  } else if (path.Has("sae_weights.safetensors")) {
    weights = "sae_weights.safetensors";
  } else {
    for (const std::string& name : path.names) {
      if (!absl::EndsWith(name, ".safetensors")) continue;
      if (!weights.empty()) return none;
      weights = name;
    }
  }
  if (!absl::EndsWith(weights, ".safetensors")) return none;
  ASSIGN_OR_RETURN(const WeightSource source, WeightSource::Open(path.At(weights)));
  if (!HasOpenMossNames(source)) return none;
  return std::vector<std::string>{path.At(weights), path.At(kConfigName)};
}

// The averages may stand beside the weights, under the names of the hook points.
absl::Status ReadAverageNorms(WeightSource& weights, OpenMossConfig* cfg) {
  const std::string prefix = "dataset_average_activation_norm.";
  for (const std::string& name : weights.names()) {
    if (!absl::StartsWith(name, prefix)) continue;
    // Files without a norm to scale by have leftovers of memory here.
    weights.Ignore(name);
    if (cfg->norm != OpenMossNorm::kDatasetWise) continue;
    ASSIGN_OR_RETURN(const double norm, weights.Scalar(name));
    if (!(norm > 0)) {
      return InvalidArgument(weights.path(), ": tensor ", name, " is ", norm, ", which is not > 0");
    }
    const std::string hook = name.substr(prefix.size());
    const std::string& given = cfg->recognition.hook_as_given;
    const bool is_in = hook == "in" || given == hook || absl::StartsWith(given, hook + " -> ");
    const bool is_out = hook == "out" || given == hook || absl::EndsWith(given, " -> " + hook);
    if (is_in) cfg->average_norm_in = norm;
    if (is_out) cfg->average_norm_out = norm;
  }
  return absl::OkStatus();
}

absl::StatusOr<torch::Tensor> LoadThreshold(WeightSource& weights, const OpenMossConfig& cfg,
                                            torch::Device device) {
  const int64_t d_sae = cfg.config.d_sae;
  for (const char* name :
       {"activation_function.log_jumprelu_threshold", "log_jumprelu_threshold"}) {
    if (!weights.Has(name)) continue;
    ASSIGN_OR_RETURN(const torch::Tensor log, weights.Load(name, {d_sae}, device));
    return log.exp();
  }
  if (!cfg.jump_relu_threshold.has_value()) {
    return NotFound(weights.path(),
                    ": act_fn is jumprelu, but there is no tensor "
                    "log_jumprelu_threshold");
  }
  return torch::full({d_sae}, *cfg.jump_relu_threshold,
                     torch::TensorOptions(torch::kFloat32).device(device));
}

// The threshold that hidden_pre of raw inputs has to exceed.
void FoldThreshold(const torch::Tensor& decoder_norms, double scale_in, bool by_decoder_norm,
                   torch::Tensor* threshold) {
  *threshold = *threshold / scale_in;
  if (!by_decoder_norm) return;
  // A row of zeros exceeds no threshold.
  *threshold = *threshold / decoder_norms.clamp_min(1e-30);
}

absl::StatusOr<SaeContent> Read(const std::vector<std::string>& files, const LoadSaeOptions&,
                                torch::Device device) {
  ASSIGN_OR_RETURN(const nlohmann::json parsed, ReadJsonFile(files[1]));
  ASSIGN_OR_RETURN(OpenMossConfig cfg, ParseOpenMossConfig(parsed, files[1]));
  ASSIGN_OR_RETURN(WeightSource weights, OpenWeights(files));
  RETURN_IF_ERROR(ReadAverageNorms(weights, &cfg));
  SaeContent content;
  content.config = cfg.config;
  content.recognition = cfg.recognition;
  content.recognition.format = "OpenMOSS";
  SaeParameters& p = content.parameters;
  RETURN_IF_ERROR(LoadOpenMossWeights(weights, cfg, device, &p));
  if (absl::StartsWith(cfg.config.architecture, "jumprelu")) {
    ASSIGN_OR_RETURN(p.threshold, LoadThreshold(weights, cfg, device));
  }
  for (const char* name : {"tokens_since_last_activation", "is_dead"}) weights.Ignore(name);
  RETURN_IF_ERROR(weights.CheckAllUsed("those of OpenMOSS' SAEs"));
  const torch::Tensor norms = p.W_dec.norm(2, {1});
  ASSIGN_OR_RETURN(const OpenMossScales scales, FoldOpenMossNorm(cfg, &content));
  if (p.threshold.defined()) {
    FoldThreshold(norms, scales.in, cfg.sparsity_include_decoder_norm, &p.threshold);
    if (cfg.sparsity_include_decoder_norm) {
      content.recognition.folds.push_back("decoder norms into the thresholds");
    }
  } else if (cfg.sparsity_include_decoder_norm && cfg.config.k > 0) {
    FoldDecoderNorms(&p);
    content.recognition.folds.push_back(
        "decoder norms: rows of W_dec have norm 1, and features grew by the norms");
  }
  content.recognition.dtype = weights.dtype();
  return content;
}

}  // namespace

const SaeFormat kOpenMossFormat = {"OpenMOSS", Find, Read};

}  // namespace featurescope
