// Reads Gemma Scope's params.npz: JumpReLU SAEs and transcoders, without any configuration.
//
//   W_enc [d_in, d_sae], W_dec [d_sae, d_in], b_enc, b_dec, threshold [d_sae]
//
// The encoder takes x as it is. Model, hook point and whether it is a transcoder stand in the path
// only, where it is the release's own.
//
// Source: Lieberum et al. 2024, arXiv:2408.05147.
#include <cmath>

#include "absl/strings/match.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/sae/hook_names.h"
#include "server/sae/reader.h"

namespace featurescope {
namespace {

constexpr absl::string_view kNames[][5] = {{"W_enc", "W_dec", "b_enc", "b_dec", "threshold"},
                                           {"w_enc", "w_dec", "b_enc", "b_dec", "threshold"}};
constexpr int64_t kContextSize = 1024;  // tokens, of all releases

absl::StatusOr<std::vector<std::string>> Find(const SaePath& path) {
  std::vector<std::string> files;
  for (const std::string& name : path.names) {
    if (absl::EndsWith(name, ".npz") && path.MayMean(name)) files.push_back(path.At(name));
  }
  if (files.size() > 1 && path.Has("params.npz")) files = {path.At("params.npz")};
  if (files.size() > 1) {
    return InvalidArgument(path.directory, ": several .npz files, name one of them");
  }
  return files;
}

// Gemma multiplies its embeddings by sqrt(d_model), which the SAE has not seen.
void FoldEmbeddingScale(SaeContent* content) {
  const double scale = std::sqrt(static_cast<double>(content->config.d_in));
  SaeParameters& p = content->parameters;
  p.W_enc = p.W_enc / scale;
  p.W_dec = p.W_dec * scale;
  p.b_dec = p.b_dec * scale;
  content->recognition.folds.push_back(
      absl::StrCat("embedding scale sqrt(d_in) = ", scale, ", by the directory 'embedding'"));
}

void UsePath(const std::string& file, SaeContent* content) {
  const PathFacts facts = GemmaScopePath(file);
  SaeRecognition& found = content->recognition;
  if (facts.as_given.empty()) return;
  found.notes.push_back(absl::StrCat("model and hook are read from the path: ", facts.as_given));
  found.hook_as_given = facts.as_given;
  found.model_name = facts.model_name;
  found.hook_name = facts.hook.in;
  found.context_size = kContextSize;
  found.prepend_bos = true;
  content->config.reshape_hook_z = absl::EndsWith(facts.hook.in, "hook_z");
  if (facts.transcoder) {
    content->config.architecture = "jumprelu_transcoder";
    found.hook_name_out = facts.hook.out;
  }
  if (facts.embedding) FoldEmbeddingScale(content);
}

absl::StatusOr<SaeContent> Read(const std::vector<std::string>& files, const LoadSaeOptions&,
                                torch::Device device) {
  ASSIGN_OR_RETURN(WeightSource weights, OpenWeights(files));
  const auto& names = weights.Has(kNames[1][0]) ? kNames[1] : kNames[0];
  SaeContent content;
  ASSIGN_OR_RETURN(const auto shape, weights.MatrixShape(names[0]));
  const auto [d_in, d_sae] = shape;
  content.config.architecture = "jumprelu";
  content.config.d_in = content.config.d_out = d_in;
  content.config.d_sae = d_sae;
  content.config.apply_b_dec_to_input = false;
  SaeParameters& p = content.parameters;
  ASSIGN_OR_RETURN(p.W_enc, weights.Load(names[0], {d_in, d_sae}, device));
  ASSIGN_OR_RETURN(p.W_dec, weights.Load(names[1], {d_sae, d_in}, device));
  ASSIGN_OR_RETURN(p.b_enc, weights.Load(names[2], {d_sae}, device));
  ASSIGN_OR_RETURN(p.b_dec, weights.Load(names[3], {d_in}, device));
  ASSIGN_OR_RETURN(p.threshold, weights.Load(names[4], {d_sae}, device));
  RETURN_IF_ERROR(weights.CheckAllUsed("those of Gemma Scope"));
  content.recognition.format = "Gemma Scope";
  content.recognition.dtype = weights.dtype();
  UsePath(files[0], &content);
  return content;
}

}  // namespace

const SaeFormat kGemmaScopeFormat = {"Gemma Scope", Find, Read};

}  // namespace featurescope
