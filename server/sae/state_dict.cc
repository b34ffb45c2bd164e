// Reads the files that notebooks save with torch.save, without a library behind them:
//
//   {"state_dict": {enc.weight [d_sae, d_in], enc.bias, dec.weight [d_in, d_sae]}, "d_in": ..,
//   "hook":
//   .., ...}                              f = relu(enc(x)), x_hat = dec(f); also the inner dict
//   alone {W_enc [d_sae, d_in], b_enc, W_dec [d_in, d_sae], b_dec}
//                                         f = relu((x - b_dec) W_enc^T + b_enc); also transposed
//
// Whether b_dec is taken off the input the files do not say: it is, unless an option says
// otherwise.
#include "absl/strings/match.h"
#include "server/base/hook_point.h"
#include "server/base/status.h"
#include "server/sae/reader.h"

namespace featurescope {
namespace {

bool HasLayers(const WeightSource& weights) {
  return weights.HasAll({"enc.weight", "enc.bias", "dec.weight"});
}
bool HasMatrices(const WeightSource& weights) {
  return weights.HasAll({"W_enc", "b_enc", "W_dec", "b_dec"});
}
bool IsNested(const WeightSource& weights) {
  const TorchValue* inner =
      weights.values() == nullptr ? nullptr : weights.values()->Find("state_dict");
  return inner != nullptr && inner->is_dict();
}

absl::StatusOr<std::vector<std::string>> Find(const SaePath& path) {
  ASSIGN_OR_RETURN(const std::string file, path.TorchFilePath());
  if (file.empty()) return std::vector<std::string>();
  ASSIGN_OR_RETURN(WeightSource weights, WeightSource::Open(file));
  if (IsNested(weights)) RETURN_IF_ERROR(weights.Enter("state_dict"));
  if (!HasLayers(weights) && !HasMatrices(weights)) return std::vector<std::string>();
  return std::vector<std::string>{file};
}

const std::string* FindText(const TorchValue& dict, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    const TorchValue* value = dict.Find(key);
    if (value != nullptr && value->AsString() != nullptr) return value->AsString();
  }
  return nullptr;
}

absl::StatusOr<int64_t> FindSize(const TorchValue& dict, absl::string_view key, int64_t hi,
                                 absl::string_view path) {
  const TorchValue* value = dict.Find(key);
  if (value == nullptr || value->is_null()) return 0;
  if (value->AsInt() == nullptr || *value->AsInt() < 1 || *value->AsInt() > hi) {
    return InvalidArgument(path, ": ", key, " is no whole number in [1, ", hi, "]");
  }
  return *value->AsInt();
}

// What the notebook wrote beside the tensors, as far as it changes the numbers or says where they
// belong.
absl::Status ReadNotes(const TorchValue& root, absl::string_view path,
                       const LoadSaeOptions& options, SaeContent* content) {
  SaeConfig& config = content->config;
  SaeRecognition& found = content->recognition;
  ASSIGN_OR_RETURN(const int64_t d_in, FindSize(root, "d_in", kMaxSaeWidth, path));
  ASSIGN_OR_RETURN(const int64_t d_sae, FindSize(root, "d_sae", kMaxSaeWidth, path));
  if ((d_in != 0 && d_in != config.d_in) || (d_sae != 0 && d_sae != config.d_sae)) {
    return InvalidArgument(path, ": d_in ", d_in, " and d_sae ", d_sae,
                           " contradict the tensors, which have ", config.d_in, " and ",
                           config.d_sae);
  }
  ASSIGN_OR_RETURN(config.k, FindSize(root, "k", config.d_sae, path));
  if (config.k > 0) {
    config.architecture = "topk";
    found.notes.push_back(absl::StrCat("topk, since the file has k = ", config.k));
  }
  const TorchValue* normalize = root.Find("normalize");
  const bool off = normalize == nullptr || normalize->is_null() ||
                   (normalize->AsBool() != nullptr && !*normalize->AsBool());
  if (!off && !options.normalize_activations.has_value()) {
    return Unimplemented(path,
                         ": normalize is set, and what it means only the notebook knows; "
                         "give normalize_activations");
  }
  if (const std::string* hook = FindText(root, {"hook", "hook_name", "hook_point"})) {
    found.hook_as_given = *hook;
    if (HookPoint::Parse(*hook).ok()) found.hook_name = *hook;
    config.reshape_hook_z = absl::EndsWith(found.hook_name, "hook_z");
  }
  if (const std::string* model = FindText(root, {"model", "model_name"})) found.model_name = *model;
  ASSIGN_OR_RETURN(found.context_size, FindSize(root, "context_size", kMaxSaeContext, path));
  return absl::OkStatus();
}

absl::Status LoadLayers(WeightSource& weights, torch::Device device, SaeContent* content) {
  ASSIGN_OR_RETURN(const auto shape, weights.MatrixShape("enc.weight"));
  const auto [d_sae, d_in] = shape;
  SaeParameters& p = content->parameters;
  content->config.d_in = content->config.d_out = d_in;
  content->config.d_sae = d_sae;
  content->config.apply_b_dec_to_input = false;
  ASSIGN_OR_RETURN(p.W_enc, weights.LoadTransposed("enc.weight", d_sae, d_in, device));
  ASSIGN_OR_RETURN(p.b_enc, weights.Load("enc.bias", {d_sae}, device));
  ASSIGN_OR_RETURN(p.W_dec, weights.LoadTransposed("dec.weight", d_in, d_sae, device));
  if (weights.Has("dec.bias")) {
    ASSIGN_OR_RETURN(p.b_dec, weights.Load("dec.bias", {d_in}, device));
  } else {
    p.b_dec = torch::zeros({d_in}, torch::TensorOptions(torch::kFloat32).device(device));
  }
  return absl::OkStatus();
}

// The biases tell which way round the matrices lie.
absl::Status LoadMatrices(WeightSource& weights, const LoadSaeOptions& options,
                          torch::Device device, SaeContent* content) {
  ASSIGN_OR_RETURN(const auto shape, weights.MatrixShape("W_enc"));
  const auto [rows, cols] = shape;
  ASSIGN_OR_RETURN(const std::vector<int64_t> b_enc, weights.Shape("b_enc"));
  const bool transposed = b_enc != std::vector<int64_t>{cols} || rows == cols;
  const int64_t d_in = transposed ? cols : rows;
  const int64_t d_sae = transposed ? rows : cols;
  SaeParameters& p = content->parameters;
  SaeRecognition& found = content->recognition;
  content->config.d_in = content->config.d_out = d_in;
  content->config.d_sae = d_sae;
  content->config.apply_b_dec_to_input = true;
  if (transposed) {
    ASSIGN_OR_RETURN(p.W_enc, weights.LoadTransposed("W_enc", d_sae, d_in, device));
    ASSIGN_OR_RETURN(p.W_dec, weights.LoadTransposed("W_dec", d_in, d_sae, device));
  } else {
    ASSIGN_OR_RETURN(p.W_enc, weights.Load("W_enc", {d_in, d_sae}, device));
    ASSIGN_OR_RETURN(p.W_dec, weights.Load("W_dec", {d_sae, d_in}, device));
  }
  ASSIGN_OR_RETURN(p.b_enc, weights.Load("b_enc", {d_sae}, device));
  ASSIGN_OR_RETURN(p.b_dec, weights.Load("b_dec", {d_in}, device));
  if (rows == cols) {
    found.warnings.push_back(
        "d_in and d_sae are equal: W_enc was taken to be [d_sae, d_in], and W_dec [d_in, d_sae]");
  }
  if (!options.apply_b_dec_to_input.has_value()) {
    found.warnings.push_back(
        "the file does not say whether b_dec is taken off the input; it is, until "
        "apply_b_dec_to_input says otherwise");
  }
  return absl::OkStatus();
}

absl::StatusOr<SaeContent> Read(const std::vector<std::string>& files,
                                const LoadSaeOptions& options, torch::Device device) {
  ASSIGN_OR_RETURN(WeightSource weights, OpenWeights(files));
  SaeContent content;
  content.config.architecture = "standard";
  content.recognition.format = "state_dict";
  const TorchValue* root = weights.values();
  if (IsNested(weights)) RETURN_IF_ERROR(weights.Enter("state_dict"));
  RETURN_IF_ERROR(HasLayers(weights) ? LoadLayers(weights, device, &content)
                                     : LoadMatrices(weights, options, device, &content));
  if (root != nullptr) {
    RETURN_IF_ERROR(ReadNotes(*root, weights.path(), options, &content));
  }
  RETURN_IF_ERROR(weights.CheckAllUsed("those of a plain ReLU SAE"));
  content.recognition.dtype = weights.dtype();
  return content;
}

}  // namespace

const SaeFormat kStateDictFormat = {"state_dict", Find, Read};

}  // namespace featurescope
