// Reads OpenAI's autoencoders for GPT-2: a state_dict in a .pt file.
//
//   pre_bias [d_in], encoder.weight [d_sae, d_in], latent_bias [d_sae], decoder.weight
//   [d_in, d_sae], "activation": "ReLU" or "TopK", "activation_state_dict": {k, postact_fn}
//
// The encoder takes x - pre_bias; a TopK autoencoder normalises x as a layer norm does before.
//
// Source: Gao et al. 2024, arXiv:2406.04093; openai/sparse_autoencoder.
#include "server/base/status.h"
#include "server/sae/hook_names.h"
#include "server/sae/reader.h"

namespace featurescope {
namespace {

constexpr int64_t kContextSize = 64;  // tokens, of the published ones

absl::StatusOr<std::vector<std::string>> Find(const SaePath& path) {
  ASSIGN_OR_RETURN(const std::string file, path.TorchFilePath());
  if (file.empty()) return std::vector<std::string>();
  ASSIGN_OR_RETURN(const WeightSource weights, WeightSource::Open(file));
  if (!weights.HasAll({"pre_bias", "latent_bias"})) return std::vector<std::string>();
  return std::vector<std::string>{file};
}

// A setting that stands beside the tensors; `otherwise` where it is missing.
absl::StatusOr<std::string> Text(const TorchValue& dict, absl::string_view key,
                                 absl::string_view otherwise, absl::string_view path) {
  const TorchValue* value = dict.Find(key);
  if (value == nullptr) return std::string(otherwise);
  if (value->AsString() == nullptr) {
    return InvalidArgument(path, ": ", key, " is ", value->KindName(), " instead of a string");
  }
  return *value->AsString();
}

absl::Status ReadTopK(WeightSource& weights, SaeContent* content) {
  SaeConfig& config = content->config;
  config.architecture = "topk";
  config.normalize_activations = NormalizeActivations::kLayerNorm;
  const TorchValue* state = weights.values()->Find("activation_state_dict");
  const TorchValue* k = state == nullptr ? nullptr : state->Find("k");
  if (k == nullptr || k->AsInt() == nullptr) {
    return InvalidArgument(weights.path(),
                           ": activation is TopK, but activation_state_dict has no "
                           "whole number k");
  }
  config.k = *k->AsInt();
  if (config.k < 1 || config.k > config.d_sae) {
    return InvalidArgument(weights.path(), ": k is ", config.k, ", out of range [1, ", config.d_sae,
                           "]");
  }
  ASSIGN_OR_RETURN(const std::string after, Text(*state, "postact_fn", "ReLU", weights.path()));
  if (after != "ReLU" && after != "Identity") {
    return Unimplemented(weights.path(), ": postact_fn '", after, "' is not supported");
  }
  if (after == "Identity") {
    content->recognition.warnings.emplace_back(
        "postact_fn is Identity: where fewer than k pre-activations of a token are positive, "
        "OpenAI "
        "keeps negative ones, which are left out here");
  }
  return absl::OkStatus();
}

absl::Status ReadActivation(WeightSource& weights, SaeContent* content) {
  ASSIGN_OR_RETURN(const std::string activation,
                   Text(*weights.values(), "activation", "ReLU", weights.path()));
  if (activation == "TopK") return ReadTopK(weights, content);
  if (activation != "ReLU") {
    return Unimplemented(weights.path(), ": activation '", activation, "' is not supported");
  }
  content->config.architecture = "standard";
  return absl::OkStatus();
}

// [d_sae, d_in]; a tied decoder is the encoder.
absl::StatusOr<torch::Tensor> LoadDecoder(WeightSource& weights, SaeContent* content,
                                          torch::Device device) {
  const int64_t d_in = content->config.d_in;
  const int64_t d_sae = content->config.d_sae;
  if (weights.Has("decoder.weight") || !weights.Has("decoder.linear.weight")) {
    return weights.LoadTransposed("decoder.weight", d_in, d_sae, device);
  }
  content->recognition.notes.push_back("the decoder is tied to the encoder");
  return weights.Load("decoder.linear.weight", {d_sae, d_in}, device);
}

void UsePath(const std::string& file, SaeRecognition* found) {
  const PathFacts facts = OpenAiPath(file);
  if (facts.as_given.empty()) return;
  found->notes.push_back(absl::StrCat("model and hook are read from the path: ", facts.as_given));
  found->hook_as_given = facts.as_given;
  found->model_name = facts.model_name;
  found->hook_name = facts.hook.in;
  found->context_size = kContextSize;
  found->center_writing_weights = false;
}

absl::StatusOr<SaeContent> Read(const std::vector<std::string>& files, const LoadSaeOptions&,
                                torch::Device device) {
  ASSIGN_OR_RETURN(WeightSource weights, OpenWeights(files));
  SaeContent content;
  ASSIGN_OR_RETURN(const auto shape, weights.MatrixShape("encoder.weight"));
  const auto [d_sae, d_in] = shape;
  content.config.d_in = content.config.d_out = d_in;
  content.config.d_sae = d_sae;
  RETURN_IF_ERROR(ReadActivation(weights, &content));
  SaeParameters& p = content.parameters;
  ASSIGN_OR_RETURN(p.W_enc, weights.LoadTransposed("encoder.weight", d_sae, d_in, device));
  ASSIGN_OR_RETURN(p.b_enc, weights.Load("latent_bias", {d_sae}, device));
  ASSIGN_OR_RETURN(p.W_dec, LoadDecoder(weights, &content, device));
  ASSIGN_OR_RETURN(p.b_dec, weights.Load("pre_bias", {d_in}, device));
  for (const char* name :
       {"stats_last_nonzero", "latents_activation_frequency", "latents_mean_square"}) {
    weights.Ignore(name);
  }
  RETURN_IF_ERROR(weights.CheckAllUsed("those of OpenAI's autoencoders"));
  content.recognition.format = "OpenAI";
  content.recognition.dtype = weights.dtype();
  UsePath(files[0], &content.recognition);
  return content;
}

}  // namespace

const SaeFormat kOpenAiFormat = {"OpenAI", Find, Read};

}  // namespace featurescope
