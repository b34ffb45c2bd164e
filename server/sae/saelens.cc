// Reads SAELens directories: cfg.json and sae_weights.safetensors, of versions 3 to 6, as exported
// for use and as saved while training (then activation_scaler.json may hold a scale).
#include "absl/strings/match.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/architectures.h"
#include "server/sae/reader.h"
#include "server/sae/saelens_config.h"
#include "server/tensor/gate.h"

namespace featurescope {
namespace {

constexpr char kConfigName[] = "cfg.json";
constexpr char kWeightsName[] = "sae_weights.safetensors";
constexpr char kScalerName[] = "activation_scaler.json";

using nlohmann::json;

absl::StatusOr<std::vector<std::string>> Find(const SaePath& path) {
  std::vector<std::string> none;
  if (!path.MayMean(kWeightsName) && !path.MayMean(kConfigName)) return none;
  // Other projects use the one name or the other.
  if (!path.Has(kWeightsName) && path.Has("sae.safetensors")) return none;
  if (!path.Has(kConfigName) && (path.Has("config.json") || path.Has("hyperparams.json"))) {
    return none;
  }
  for (const char* name : {kWeightsName, kConfigName}) {
    if (!path.Has(name)) return NotFound(path.At(name), " is missing");
  }
  std::vector<std::string> files = {path.At(kWeightsName), path.At(kConfigName)};
  if (path.Has(kScalerName)) files.push_back(path.At(kScalerName));
  return files;
}

// The threshold of each feature; training saves its logarithm in some versions.
absl::StatusOr<torch::Tensor> LoadThreshold(WeightSource& weights, const SaeConfig& config,
                                            torch::Device device) {
  if (weights.Has("threshold") || !weights.Has("log_threshold")) {
    return weights.Load("threshold", {config.d_sae}, device);
  }
  ASSIGN_OR_RETURN(const torch::Tensor log, weights.Load("log_threshold", {config.d_sae}, device));
  return log.exp();
}

// The threshold that training of BatchTopK has tracked so far; 0 before it has any.
absl::StatusOr<torch::Tensor> LoadTrackedThreshold(WeightSource& weights, torch::Device device,
                                                   SaeRecognition* found) {
  if (!weights.Has("topk_threshold")) return torch::Tensor();
  ASSIGN_OR_RETURN(const double threshold, weights.Scalar("topk_threshold"));
  if (threshold == 0) return torch::Tensor();
  found->notes.push_back(absl::StrCat("training tracked the threshold ", threshold));
  return torch::full({}, threshold, torch::TensorOptions(torch::kFloat32).device(device));
}

// A multiplier of the features from fine-tuning, which goes into the decoder.
absl::Status FoldFinetuningScale(WeightSource& weights, const SaeLensConfig& cfg,
                                 torch::Device device, SaeContent* content) {
  std::string name;
  for (const char* known : {"scaling_factor", "finetuning_scaling_factor"}) {
    if (weights.Has(known)) name = known;
  }
  if (name.empty()) {
    if (!cfg.finetuning_scale) return absl::OkStatus();
    return InvalidArgument(weights.path(),
                           ": cfg.json sets finetuning_scaling_factor, but tensor "
                           "scaling_factor is missing");
  }
  ASSIGN_OR_RETURN(const torch::Tensor scale, weights.Load(name, {cfg.config.d_sae}, device));
  if ((scale == 1).all().item<bool>()) return absl::OkStatus();
  if (!cfg.finetuning_scale) {
    return InvalidArgument(weights.path(), ": tensor ", name,
                           " is not one everywhere, but cfg.json does not set "
                           "finetuning_scaling_factor");
  }
  content->parameters.W_dec = content->parameters.W_dec * scale.unsqueeze(1);
  content->recognition.folds.push_back(
      absl::StrCat("fine-tuning scale of the features into W_dec (", name, ")"));
  return absl::OkStatus();
}

absl::Status ReadScaler(const std::vector<std::string>& files, SaeContent* content) {
  for (const std::string& file : files) {
    if (BaseName(file) != kScalerName) continue;
    ASSIGN_OR_RETURN(const json scaler, ReadJsonFile(file));
    if (JsonFind(scaler, "scaling_factor") == nullptr) continue;
    ASSIGN_OR_RETURN(content->norm_scaling_factor,
                     JsonFloat(scaler, "scaling_factor", file, 1e-30, 1e30));
    content->norm_scaling_file = kScalerName;
  }
  return absl::OkStatus();
}

absl::StatusOr<SaeContent> Read(const std::vector<std::string>& files, const LoadSaeOptions&,
                                torch::Device device) {
  const std::string& cfg_path = files[1];
  ASSIGN_OR_RETURN(const json parsed, ReadJsonFile(cfg_path));
  ASSIGN_OR_RETURN(SaeLensConfig cfg, ParseSaeLensConfig(parsed, cfg_path));
  SaeContent content;
  content.config = cfg.config;
  content.recognition = cfg.recognition;
  // Before gigabytes are read.
  RETURN_IF_ERROR(Annotate(CheckSaeArchitecture(cfg.config.architecture), cfg_path));
  const SaeArchitecture& architecture = *FindSaeArchitecture(cfg.config.architecture);
  const bool batch = absl::EndsWith(cfg.config.architecture, "batchtopk");
  ASSIGN_OR_RETURN(WeightSource weights, OpenWeights(files));
  for (const SaeParameterSpec& spec : kSaeParameterSpecs) {
    if ((architecture.parameters & spec.bit) == 0) continue;
    torch::Tensor& tensor = content.parameters.*spec.tensor;
    if (spec.bit != kThreshold) {
      ASSIGN_OR_RETURN(tensor,
                       weights.Load(spec.name, ParameterShape(spec.bit, cfg.config), device));
    } else if (batch) {
      ASSIGN_OR_RETURN(tensor, LoadTrackedThreshold(weights, device, &content.recognition));
    } else {
      ASSIGN_OR_RETURN(tensor, LoadThreshold(weights, cfg.config, device));
    }
  }
  RETURN_IF_ERROR(FoldFinetuningScale(weights, cfg, device, &content));
  weights.Ignore("log_threshold");
  RETURN_IF_ERROR(weights.CheckAllUsed(
      absl::StrCat("those that a ", cfg.config.architecture, " SAE of SAELens has")));
  RETURN_IF_ERROR(ReadScaler(files, &content));
  content.recognition.dtype = weights.dtype();
  return content;
}

}  // namespace

const SaeFormat kSaeLensFormat = {"SAELens", Find, Read};

}  // namespace featurescope
