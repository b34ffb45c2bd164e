// Reads directories of EleutherAI's sparsify: cfg.json and sae.safetensors.
//
//   encoder.weight [d_sae, d_in], encoder.bias, W_dec [d_sae, d_in] (not transposed), b_dec,
//   W_skip [d_in, d_in] of transcoders with skip_connection
//
// The encoder takes x - b_dec, but not a transcoder's. normalize_decoder and multi_topk matter to
// training only.
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/architectures.h"
#include "server/sae/reader.h"
#include "server/sae/sparsify_config.h"

namespace featurescope {
namespace {

constexpr char kConfigName[] = "cfg.json";
constexpr char kWeightsName[] = "sae.safetensors";

absl::StatusOr<std::vector<std::string>> Find(const SaePath& path) {
  if (!path.Has(kWeightsName)) return std::vector<std::string>();
  if (!path.MayMean(kWeightsName) && !path.MayMean(kConfigName)) {
    return std::vector<std::string>();
  }
  if (!path.Has(kConfigName)) return NotFound(path.At(kConfigName), " is missing");
  return std::vector<std::string>{path.At(kWeightsName), path.At(kConfigName)};
}

// The name of the directory that holds `file`.
absl::string_view Hookpoint(absl::string_view file) {
  const size_t slash = file.find_last_of('/');
  return slash == absl::string_view::npos ? "" : BaseName(file.substr(0, slash));
}

absl::StatusOr<SaeContent> Read(const std::vector<std::string>& files, const LoadSaeOptions&,
                                torch::Device device) {
  ASSIGN_OR_RETURN(const nlohmann::json parsed, ReadJsonFile(files[1]));
  ASSIGN_OR_RETURN(SparsifyConfig cfg, ParseSparsifyConfig(parsed, Hookpoint(files[1]), files[1]));
  SaeContent content;
  content.config = cfg.config;
  content.recognition = cfg.recognition;
  const int64_t d_in = cfg.config.d_in;
  const int64_t d_sae = cfg.config.d_sae;
  ASSIGN_OR_RETURN(WeightSource weights, OpenWeights(files));
  SaeParameters& p = content.parameters;
  ASSIGN_OR_RETURN(p.W_enc, weights.LoadTransposed("encoder.weight", d_sae, d_in, device));
  ASSIGN_OR_RETURN(p.b_enc, weights.Load("encoder.bias", {d_sae}, device));
  ASSIGN_OR_RETURN(p.W_dec, weights.Load("W_dec", {d_sae, d_in}, device));
  ASSIGN_OR_RETURN(p.b_dec, weights.Load("b_dec", {d_in}, device));
  if ((FindSaeArchitecture(cfg.config.architecture)->parameters & kWSkip) != 0) {
    ASSIGN_OR_RETURN(p.W_skip, weights.Load("W_skip", {d_in, d_in}, device));
  }
  RETURN_IF_ERROR(weights.CheckAllUsed(
      absl::StrCat("those that cfg.json speaks of (", cfg.config.architecture, ")")));
  content.recognition.dtype = weights.dtype();
  return content;
}

}  // namespace

const SaeFormat kSparsifyFormat = {"sparsify", Find, Read};

}  // namespace featurescope
