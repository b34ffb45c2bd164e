// Reads what saprmarks' dictionary_learning saves: ae.pt, a state_dict, and config.json; or the
// backup of a run, which has the same name and the state_dict under "ae".
//
// The class follows from the tensors; only TopK and BatchTopK have the same ones, and are told
// apart by dict_class. Numbers are those of the class itself; load_dictionary, which lets an
// AutoEncoder's features grow by the decoder's norms, is rescale_acts_by_decoder_norm.
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/dictionary_learning_config.h"
#include "server/sae/folds.h"
#include "server/sae/reader.h"

namespace featurescope {
namespace {

using nlohmann::json;

constexpr char kConfigName[] = "config.json";
constexpr int64_t kMaxGroups = 4096;

struct DictClass {
  absl::string_view name;
  absl::string_view architecture;
  bool apply_b_dec_to_input;
  bool linear_layers;  // encoder.weight [d_sae, d_in], decoder.weight [d_in, d_sae]; else W_enc,
                       // W_dec
  absl::string_view b_enc;
  absl::string_view b_dec;
  // Beside encoder, decoder and their biases, all that a file of this class has.
  std::vector<absl::string_view> others;
};

// What tells a class apart from those below it comes first.
const std::vector<DictClass>& DictClasses() {
  static const auto* classes = new std::vector<DictClass>{
      {"MatryoshkaBatchTopKSAE",
       "matryoshka_batchtopk",
       true,
       false,
       "b_enc",
       "b_dec",
       {"k", "threshold", "group_sizes"}},
      {"JumpReluAutoEncoder", "jumprelu", false, false, "b_enc", "b_dec", {"threshold"}},
      {"GatedAutoEncoder",
       "gated",
       true,
       true,
       "",
       "decoder_bias",
       {"r_mag", "gate_bias", "mag_bias"}},
      {"BatchTopKSAE", "batchtopk", true, true, "encoder.bias", "b_dec", {"k"}},
      {"AutoEncoderTopK", "topk", true, true, "encoder.bias", "b_dec", {"k"}},
      {"AutoEncoder", "standard", true, true, "encoder.bias", "bias", {}},
      {"AutoEncoderNew", "standard", false, true, "encoder.bias", "decoder.bias", {}},
  };
  return *classes;
}

bool HasClass(const WeightSource& weights, const DictClass& dict) {
  if (!weights.Has(dict.linear_layers ? "encoder.weight" : "W_enc")) return false;
  if (!dict.b_enc.empty() && !weights.Has(dict.b_enc)) return false;
  return weights.Has(dict.b_dec) && weights.HasAll(dict.others);
}

// A backup of a run: {"step", "ae", "optimizer", "config", "norm_factor"}.
bool IsBackup(const WeightSource& weights) {
  const TorchValue* ae = weights.values() == nullptr ? nullptr : weights.values()->Find("ae");
  return ae != nullptr && ae->is_dict();
}

absl::StatusOr<std::vector<std::string>> Find(const SaePath& path) {
  std::vector<std::string> none;
  ASSIGN_OR_RETURN(const std::string file, path.TorchFilePath());
  if (file.empty()) return none;
  ASSIGN_OR_RETURN(WeightSource weights, WeightSource::Open(file));
  if (weights.values() == nullptr) return none;
  bool fits = IsBackup(weights) || BaseName(file) == "ae.pt";
  for (const DictClass& dict : DictClasses()) fits = fits || HasClass(weights, dict);
  if (!fits) return none;
  std::vector<std::string> files = {file};
  if (path.Has(kConfigName)) files.push_back(path.At(kConfigName));
  return files;
}

// What of a torch.save file's tree JSON can say; tensors become null.
json ToJson(const TorchValue& value) {
  if (value.AsBool() != nullptr) return *value.AsBool();
  if (value.AsInt() != nullptr) return *value.AsInt();
  if (value.AsFloat() != nullptr) return *value.AsFloat();
  if (value.AsString() != nullptr) return *value.AsString();
  json result;
  if (const std::vector<TorchValue>* items = value.AsSequence(); items != nullptr) {
    result = json::array();
    for (const TorchValue& item : *items) result.push_back(ToJson(item));
  } else if (const TorchValue::Dict* dict = value.AsDict(); dict != nullptr) {
    result = json::object();
    for (size_t i = 0; i < dict->keys.size(); ++i) {
      if (dict->keys[i].AsString() != nullptr) {
        result[*dict->keys[i].AsString()] = ToJson(dict->values[i]);
      }
    }
  }
  return result;
}

// What a backup has beside the state_dict.
absl::Status ReadBackup(WeightSource& weights, DictionaryLearningConfig* cfg, double* norm_factor) {
  const TorchValue& root = *weights.values();
  const TorchValue* config = root.Find("config");
  if (config != nullptr) {
    ASSIGN_OR_RETURN(*cfg, ParseDictionaryLearningConfig(ToJson(*config),
                                                         absl::StrCat(weights.path(), ": config")));
  }
  const TorchValue* factor = root.Find("norm_factor");
  if (factor != nullptr && factor->is_tensor()) {
    ASSIGN_OR_RETURN(*norm_factor, weights.Scalar("norm_factor"));
  } else if (factor != nullptr && factor->AsFloat() != nullptr) {
    *norm_factor = *factor->AsFloat();
  } else if (factor != nullptr && factor->AsInt() != nullptr) {
    *norm_factor = static_cast<double>(*factor->AsInt());
  }
  if (!(*norm_factor > 0 && *norm_factor < 1e30)) {
    return InvalidArgument(weights.path(), ": norm_factor is ", *norm_factor, ", which is not > 0");
  }
  return weights.Enter("ae");
}

absl::StatusOr<const DictClass*> ChooseClass(const WeightSource& weights,
                                             const DictionaryLearningConfig& cfg,
                                             const LoadSaeOptions& options) {
  const DictClass* by_tensors = nullptr;
  const DictClass* by_name = nullptr;
  for (const DictClass& dict : DictClasses()) {
    if (by_tensors == nullptr && HasClass(weights, dict)) by_tensors = &dict;
    if (dict.name == cfg.dict_class) by_name = &dict;
  }
  if (!cfg.dict_class.empty()) {
    if (by_name == nullptr) {
      return Unimplemented(weights.path(), ": dict_class '", cfg.dict_class, "' is not supported");
    }
    // The reader names what is missing.
    if (by_tensors == nullptr || HasClass(weights, *by_name)) return by_name;
    return InvalidArgument(weights.path(), ": dict_class is ", cfg.dict_class,
                           ", but the tensors are those of ", by_tensors->name);
  }
  if (by_tensors == nullptr) {
    return InvalidArgument(weights.path(),
                           ": the tensors are those of no class of "
                           "dictionary_learning");
  }
  const bool ambiguous =
      by_tensors->name == "BatchTopKSAE" || by_tensors->name == "AutoEncoderTopK";
  if (!ambiguous) return by_tensors;
  if (options.selection == SaeSelection::kAsStored && !options.threshold.has_value()) {
    return InvalidArgument(
        weights.path(),
        ": without config.json it is not known whether k counts the features of a "
        "token (AutoEncoderTopK) or of a batch (BatchTopKSAE); give a selection");
  }
  return by_tensors;
}

absl::Status CheckAgainstConfig(const WeightSource& weights, const DictionaryLearningConfig& cfg,
                                const SaeConfig& config) {
  if (cfg.activation_dim != 0 && cfg.activation_dim != config.d_in) {
    return InvalidArgument(weights.path(), ": tensors are of ", config.d_in,
                           " dimensions, but activation_dim is ", cfg.activation_dim);
  }
  if (cfg.dict_size != 0 && cfg.dict_size != config.d_sae) {
    return InvalidArgument(weights.path(), ": tensors have ", config.d_sae,
                           " features, but dict_size is ", cfg.dict_size);
  }
  return absl::OkStatus();
}

absl::Status LoadCoders(WeightSource& weights, const DictClass& dict, torch::Device device,
                        SaeContent* content) {
  SaeConfig& config = content->config;
  SaeParameters& p = content->parameters;
  ASSIGN_OR_RETURN(const auto shape,
                   weights.MatrixShape(dict.linear_layers ? "encoder.weight" : "W_enc"));
  config.d_sae = dict.linear_layers ? shape.first : shape.second;
  config.d_in = config.d_out = dict.linear_layers ? shape.second : shape.first;
  const int64_t d_in = config.d_in;
  const int64_t d_sae = config.d_sae;
  if (dict.linear_layers) {
    ASSIGN_OR_RETURN(p.W_enc, weights.LoadTransposed("encoder.weight", d_sae, d_in, device));
    ASSIGN_OR_RETURN(p.W_dec, weights.LoadTransposed("decoder.weight", d_in, d_sae, device));
  } else {
    ASSIGN_OR_RETURN(p.W_enc, weights.Load("W_enc", {d_in, d_sae}, device));
    ASSIGN_OR_RETURN(p.W_dec, weights.Load("W_dec", {d_sae, d_in}, device));
  }
  if (!dict.b_enc.empty()) {
    ASSIGN_OR_RETURN(p.b_enc, weights.Load(dict.b_enc, {d_sae}, device));
  }
  ASSIGN_OR_RETURN(p.b_dec, weights.Load(dict.b_dec, {d_in}, device));
  return absl::OkStatus();
}

absl::Status LoadOthers(WeightSource& weights, const DictClass& dict, torch::Device device,
                        SaeContent* content) {
  SaeConfig& config = content->config;
  SaeParameters& p = content->parameters;
  if (dict.architecture == "gated") {
    ASSIGN_OR_RETURN(p.r_mag, weights.Load("r_mag", {config.d_sae}, device));
    ASSIGN_OR_RETURN(p.b_gate, weights.Load("gate_bias", {config.d_sae}, device));
    ASSIGN_OR_RETURN(p.b_mag, weights.Load("mag_bias", {config.d_sae}, device));
  }
  if (dict.architecture == "jumprelu") {
    ASSIGN_OR_RETURN(p.threshold, weights.Load("threshold", {config.d_sae}, device));
    return absl::OkStatus();
  }
  if (!weights.Has("k")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const double k, weights.Scalar("k"));
  if (!(k >= 1 && k <= static_cast<double>(config.d_sae))) {
    return InvalidArgument(weights.path(), ": k is ", k, ", out of range [1, ", config.d_sae, "]");
  }
  config.k = static_cast<int64_t>(k);
  // Older files have no threshold; -1 is one that was not tracked yet.
  if (weights.Has("threshold")) {
    ASSIGN_OR_RETURN(const double threshold, weights.Scalar("threshold"));
    if (threshold > 0) {
      p.threshold =
          torch::full({}, threshold, torch::TensorOptions(torch::kFloat32).device(device));
    }
  }
  if (dict.architecture == "matryoshka_batchtopk") {
    ASSIGN_OR_RETURN(config.group_sizes, weights.Integers("group_sizes", kMaxGroups));
  }
  return absl::OkStatus();
}

absl::StatusOr<SaeContent> Read(const std::vector<std::string>& files,
                                const LoadSaeOptions& options, torch::Device device) {
  ASSIGN_OR_RETURN(WeightSource weights, OpenWeights(files));
  DictionaryLearningConfig cfg;
  double norm_factor = 1;
  const bool backup = IsBackup(weights);
  if (files.size() > 1) {
    ASSIGN_OR_RETURN(const json parsed, ReadJsonFile(files[1]));
    ASSIGN_OR_RETURN(cfg, ParseDictionaryLearningConfig(parsed, files[1]));
  }
  if (backup) {
    DictionaryLearningConfig inside;
    RETURN_IF_ERROR(ReadBackup(weights, &inside, &norm_factor));
    if (files.size() == 1) cfg = inside;
  }
  ASSIGN_OR_RETURN(const DictClass* dict, ChooseClass(weights, cfg, options));
  SaeContent content;
  content.config.architecture = std::string(dict->architecture);
  content.config.apply_b_dec_to_input = dict->apply_b_dec_to_input;
  content.recognition = cfg.recognition;
  content.recognition.format =
      backup ? "dictionary_learning, backup of a run" : "dictionary_learning";
  content.recognition.notes.push_back(absl::StrCat("class ", dict->name));
  RETURN_IF_ERROR(LoadCoders(weights, *dict, device, &content));
  RETURN_IF_ERROR(CheckAgainstConfig(weights, cfg, content.config));
  RETURN_IF_ERROR(LoadOthers(weights, *dict, device, &content));
  RETURN_IF_ERROR(weights.CheckAllUsed(absl::StrCat("those of class ", dict->name)));
  content.recognition.dtype = weights.dtype();
  if (norm_factor != 1) {
    // As the run itself does before it saves: only its backups are not yet scaled.
    ScaleBiases(norm_factor, &content.parameters);
    content.recognition.folds.push_back(
        absl::StrCat("biases and thresholds times norm_factor ", norm_factor));
  }
  return content;
}

}  // namespace

const SaeFormat kDictionaryLearningFormat = {"dictionary_learning", Find, Read};

}  // namespace featurescope
