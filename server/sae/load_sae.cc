// Finding the format of an SAE's files, and what all formats share: options, folds, the hash.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "server/base/hash.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/architectures.h"
#include "server/sae/folds.h"
#include "server/sae/reader.h"
#include "server/sae/sae_files.h"
#include "server/tensor/gate.h"

namespace featurescope {
namespace {

constexpr size_t kMaxNames = 65536;

bool IsTorchName(absl::string_view name) {
  return absl::EndsWith(name, ".pt") || absl::EndsWith(name, ".pth") ||
         absl::EndsWith(name, ".bin") || absl::EndsWith(name, ".ckpt");
}

struct Found {
  const SaeFormat* format = nullptr;
  std::vector<std::string> files;
};

// What a file has, for the message that nothing fits.
std::string Contents(const SaePath& path) {
  if (!path.file.empty()) {
    const absl::StatusOr<WeightSource> source = WeightSource::Open(path.At(path.file));
    if (!source.ok()) return std::string(source.status().message());
    std::vector<std::string> names = source->names();
    const size_t n = names.size();
    names.resize(std::min<size_t>(n, 12));
    return absl::StrCat("it has ", n, " tensors: ", absl::StrJoin(names, ", "),
                        n > names.size() ? ", ..." : "");
  }
  std::vector<std::string> names = path.names;
  names.resize(std::min<size_t>(names.size(), 12));
  return names.empty() ? "the directory has no files"
                       : absl::StrCat("the directory has ", absl::StrJoin(names, ", "));
}

absl::StatusOr<Found> FindFormat(absl::string_view given) {
  ASSIGN_OR_RETURN(const SaePath path, SaePath::Open(given));
  for (const SaeFormat* format : kSaeFormats) {
    ASSIGN_OR_RETURN(std::vector<std::string> files, format->find(path));
    if (!files.empty()) return Found{format, std::move(files)};
  }
  return InvalidArgument(
      given, ": no SAE format fits; ", Contents(path), ". Known formats: ",
      absl::StrJoin(kSaeFormats, ", ", [](std::string* out, const SaeFormat* format) {
        absl::StrAppend(out, format->name);
      }));
}

void Override(absl::string_view name, std::optional<bool> value, bool* setting,
              SaeRecognition* found) {
  if (!value.has_value() || *value == *setting) return;
  *setting = *value;
  found->notes.push_back(absl::StrCat(name, " is ", *value ? "true" : "false", " by your option"));
}

absl::Status ApplySettings(const LoadSaeOptions& options, SaeContent* content) {
  SaeConfig& config = content->config;
  SaeRecognition& found = content->recognition;
  if (IsTranscoder(config.architecture) && options.apply_b_dec_to_input.value_or(false)) {
    return InvalidArgument("apply_b_dec_to_input is given, but a ", config.architecture,
                           "'s b_dec belongs to its output");
  }
  Override("apply_b_dec_to_input", options.apply_b_dec_to_input, &config.apply_b_dec_to_input,
           &found);
  Override("rescale_acts_by_decoder_norm", options.rescale_acts_by_decoder_norm,
           &config.rescale_acts_by_decoder_norm, &found);
  if (options.normalize_activations.has_value() &&
      *options.normalize_activations != config.normalize_activations) {
    config.normalize_activations = *options.normalize_activations;
    found.notes.push_back(absl::StrCat("normalize_activations is ",
                                       NormalizeActivationsName(config.normalize_activations),
                                       " by your option"));
  }
  if (options.k.has_value() && *options.k != config.k) {
    if (*options.k < 1 || *options.k > config.d_sae) {
      return InvalidArgument("k ", *options.k, " is out of range [1, ", config.d_sae, "]");
    }
    config.k = *options.k;
    found.notes.push_back(absl::StrCat("k is ", config.k, " by your option"));
  }
  return absl::OkStatus();
}

absl::Status SelectByThreshold(const LoadSaeOptions& options, SaeContent* content) {
  SaeConfig& config = content->config;
  torch::Tensor& threshold = content->parameters.threshold;
  config.whole_batch = false;
  if (options.threshold.has_value()) {
    if (!(*options.threshold > 0) || !std::isfinite(*options.threshold)) {
      return InvalidArgument("threshold ", *options.threshold, " is not > 0");
    }
    threshold = torch::full({}, *options.threshold,
                            content->parameters.b_enc.options().dtype(torch::kFloat32));
    content->recognition.notes.push_back(
        absl::StrCat("threshold is ", *options.threshold, " by your option"));
    return absl::OkStatus();
  }
  if (threshold.defined() && threshold.item<float>() > 0) return absl::OkStatus();
  return InvalidArgument(
      "a ", config.architecture, " SAE selects by a threshold, and the file ",
      threshold.defined() ? absl::StrCat("has one of ", threshold.item<float>(),
                                         ", as training leaves it that has not tracked one yet")
                          : "has none",
      "; give a threshold, or select by another rule (", SaeSelectionName(SaeSelection::kPerToken),
      ", ", SaeSelectionName(SaeSelection::kWholeBatch), ")");
}

// Settles how a TopK or BatchTopK file selects.
absl::Status ApplySelection(const LoadSaeOptions& options, SaeContent* content) {
  SaeConfig& config = content->config;
  const bool topk = config.architecture == "topk";
  const bool batch = absl::EndsWith(config.architecture, "batchtopk");
  SaeSelection selection = options.selection;
  if (!topk && !batch) {
    if (selection == SaeSelection::kAsStored && !options.threshold.has_value()) {
      return absl::OkStatus();
    }
    return InvalidArgument("a selection or a threshold is given, but a ", config.architecture,
                           " SAE is neither topk nor batchtopk");
  }
  if (selection == SaeSelection::kAsStored) {
    selection = options.threshold.has_value() ? SaeSelection::kThreshold
                : topk                        ? SaeSelection::kPerToken
                : config.whole_batch          ? SaeSelection::kWholeBatch
                                              : SaeSelection::kThreshold;
  } else {
    content->recognition.notes.push_back(
        absl::StrCat("features are selected by ", SaeSelectionName(selection), " by your option"));
  }
  if (selection == SaeSelection::kPerToken) {
    config.architecture = "topk";
    config.whole_batch = false;
    config.group_sizes.clear();
    content->parameters.threshold = torch::Tensor();
    return absl::OkStatus();
  }
  if (topk) config.architecture = "batchtopk";
  if (selection == SaeSelection::kThreshold) return SelectByThreshold(options, content);
  config.whole_batch = true;
  content->recognition.warnings.push_back(
      absl::StrCat("activations depend on what is encoded together: the ", config.k,
                   " n largest of n tokens fire, as in training; the selection '",
                   SaeSelectionName(SaeSelection::kThreshold), "' makes tokens independent"));
  return absl::OkStatus();
}

absl::Status FoldNormScalingFactor(const LoadSaeOptions& options, SaeContent* content) {
  SaeConfig& config = content->config;
  SaeRecognition& found = content->recognition;
  double factor = content->norm_scaling_factor;
  std::string origin = content->norm_scaling_file;
  if (options.norm_scaling_factor.has_value()) {
    factor = *options.norm_scaling_factor;
    origin = "your option";
    if (!(factor > 0) || !std::isfinite(factor)) {
      return InvalidArgument("norm_scaling_factor ", factor, " is not > 0");
    }
  }
  const bool expected =
      config.normalize_activations == NormalizeActivations::kExpectedAverageOnlyIn;
  if (factor == 0) {
    if (expected) {
      found.warnings.push_back(
          "normalize_activations is expected_average_only_in, and no file says by which factor: if "
          "it is not folded into the weights yet, reconstructions are wrong until you give "
          "norm_scaling_factor");
    }
    return absl::OkStatus();
  }
  if (IsTranscoder(config.architecture)) {
    return Unimplemented("norm_scaling_factor of a transcoder, whose output has another scale");
  }
  if (config.normalize_activations == NormalizeActivations::kConstantNormRescale ||
      config.normalize_activations == NormalizeActivations::kLayerNorm) {
    return InvalidArgument("norm_scaling_factor is ", factor, " (", origin,
                           "), but normalize_activations is ",
                           NormalizeActivationsName(config.normalize_activations));
  }
  if (!expected) {
    if (!options.norm_scaling_factor.has_value()) {
      found.notes.push_back(absl::StrCat("the factor ", factor, " of ", origin,
                                         " is not used: normalize_activations is none, so that the "
                                         "weights have it already"));
      return absl::OkStatus();
    }
    found.warnings.push_back(
        "the files say that nothing is normalised; norm_scaling_factor is folded all the same");
  }
  FoldInputScale(factor, &content->parameters);
  config.normalize_activations = NormalizeActivations::kNone;
  found.folds.push_back(absl::StrCat("input scale ", factor, " (", origin, ")"));
  return absl::OkStatus();
}

// A hash over what decides the numbers an SAE gives.
std::string HashSae(const SaeConfig& config, const SaeParameters& parameters) {
  Sha256 sha;
  sha.Update(absl::StrCat(config.architecture, "|", config.d_in, "|", config.d_sae, "|", config.k,
                          "|", config.apply_b_dec_to_input, "|",
                          NormalizeActivationsName(config.normalize_activations), "|",
                          config.rescale_acts_by_decoder_norm, "|", config.reshape_hook_z));
  if (config.d_out != config.d_in) sha.Update(absl::StrCat("|d_out ", config.d_out));
  if (config.whole_batch) sha.Update("|whole_batch");
  if (!config.group_sizes.empty()) {
    sha.Update(absl::StrCat("|groups ", absl::StrJoin(config.group_sizes, ",")));
  }
  for (const SaeParameterSpec& spec : kSaeParameterSpecs) {
    const torch::Tensor& tensor = parameters.*spec.tensor;
    if (!tensor.defined()) continue;
    const torch::Tensor cpu = tensor.cpu();
    sha.Update({static_cast<const char*>(cpu.data_ptr()), cpu.nbytes()});
  }
  return sha.HexDigest();
}

}  // namespace

absl::string_view SaeSelectionName(SaeSelection selection) {
  switch (selection) {
    case SaeSelection::kAsStored:
      return "as_stored";
    case SaeSelection::kPerToken:
      return "per_token";
    case SaeSelection::kThreshold:
      return "threshold";
    case SaeSelection::kWholeBatch:
      return "whole_batch";
  }
  return "";
}

std::optional<SaeSelection> FindSaeSelection(absl::string_view name) {
  for (const SaeSelection selection : {SaeSelection::kAsStored, SaeSelection::kPerToken,
                                       SaeSelection::kThreshold, SaeSelection::kWholeBatch}) {
    if (name == SaeSelectionName(selection)) return selection;
  }
  return std::nullopt;
}

absl::StatusOr<SaePath> SaePath::Open(absl::string_view path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path given{std::string(path)};
  const fs::file_status status = fs::status(given, error);
  SaePath result;
  if (fs::is_directory(status)) {
    result.directory = given.string();
  } else if (fs::is_regular_file(status)) {
    result.directory = given.has_parent_path() ? given.parent_path().string() : ".";
    result.file = given.filename().string();
  } else if (status.type() == fs::file_type::not_found) {
    return NotFound(path, ": no such file or directory");
  } else {
    return InvalidArgument(path, ": neither a directory nor a regular file");
  }
  fs::directory_iterator entries(result.directory, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    std::error_code ignored;
    if (!entries->is_regular_file(ignored)) continue;
    if (result.names.size() == kMaxNames) {
      return InvalidArgument(result.directory, ": more than ", kMaxNames, " files");
    }
    result.names.push_back(entries->path().filename().string());
  }
  if (error) return ErrnoStatus(error.value(), result.directory);
  std::sort(result.names.begin(), result.names.end());
  return result;
}

bool SaePath::Has(absl::string_view name) const {
  return std::binary_search(names.begin(), names.end(), std::string(name));
}

std::string SaePath::At(absl::string_view name) const { return JoinPath(directory, name); }

absl::StatusOr<std::string> SaePath::TorchFilePath() const {
  if (!file.empty()) {
    const std::string path = At(file);
    return IsTorchName(file) || TorchFile::LooksLikeTorchFile(path) ? path : "";
  }
  if (Has("ae.pt")) return At("ae.pt");
  std::vector<std::string> candidates;
  std::copy_if(names.begin(), names.end(), std::back_inserter(candidates), IsTorchName);
  if (candidates.empty()) return std::string();
  if (candidates.size() == 1) return At(candidates[0]);
  return InvalidArgument(
      directory, ": several files may be meant, name one: ", absl::StrJoin(candidates, ", "));
}

absl::StatusOr<WeightSource> OpenWeights(const std::vector<std::string>& files) {
  return WeightSource::Open(files[0]);
}

absl::StatusOr<nlohmann::json> ReadJsonOf(const std::vector<std::string>& files,
                                          absl::string_view name) {
  for (const std::string& file : files) {
    if (BaseName(file) == name) return ReadJsonFile(file);
  }
  return NotFound(files[0], ": there is no ", name, " beside it");
}

// Sets what only the loader may.
class SaeLoader {
 public:
  static absl::StatusOr<std::shared_ptr<const Sae>> Load(SaeContent content,
                                                         const LoadSaeOptions& options) {
    SaeRecognition& found = content.recognition;
    SaeConfig& config = content.config;
    RETURN_IF_ERROR(CheckSaeArchitecture(config.architecture));
    if (config.d_out == 0) config.d_out = config.d_in;
    RETURN_IF_ERROR(ApplySettings(options, &content));
    RETURN_IF_ERROR(ApplySelection(options, &content));
    RETURN_IF_ERROR(FoldNormScalingFactor(options, &content));
    config.model_name = found.model_name;
    config.hook_name = found.hook_name;
    config.hook_name_out = found.hook_name_out;
    config.context_size = found.context_size;
    config.prepend_bos = found.prepend_bos.value_or(true);
    config.format = found.format;
    ASSIGN_OR_RETURN(const std::shared_ptr<const Sae> sae,
                     Sae::Create(std::move(config), std::move(content.parameters)));
    Sae& made = const_cast<Sae&>(*sae);  // nobody else has it yet
    made.hash_ = HashSae(sae->config(), sae->parameters());
    made.recognition_ = std::move(found);
    return sae;
  }
};

absl::StatusOr<std::shared_ptr<const Sae>> LoadSae(absl::string_view path, torch::Device device,
                                                   const LoadSaeOptions& options) {
  ASSIGN_OR_RETURN(const Found found, FindFormat(path));
  return TorchGate("loading an SAE", [&]() -> absl::StatusOr<std::shared_ptr<const Sae>> {
    ASSIGN_OR_RETURN(SaeContent content, found.format->read(found.files, options, device));
    content.recognition.weights_file = found.files[0];
    absl::StatusOr<std::shared_ptr<const Sae>> sae = SaeLoader::Load(std::move(content), options);
    if (!sae.ok()) return Annotate(sae.status(), found.files[0]);
    return sae;
  });
}

absl::StatusOr<SaeFileSet> FindSaeFiles(absl::string_view path) {
  ASSIGN_OR_RETURN(Found found, FindFormat(path));
  return SaeFileSet{std::string(found.format->name), std::move(found.files)};
}

}  // namespace featurescope
