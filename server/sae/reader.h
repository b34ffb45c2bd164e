// How a format is found and read; internal to server/sae. One format is one small file and one line
// in kSaeFormats.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/sae/config.h"
#include "server/sae/sae.h"
#include "server/sae/sae_files.h"
#include "server/sae/weight_source.h"

namespace featurescope {

// What a user's path leads to.
struct SaePath {
  std::string directory;           // the path itself, or the directory that holds it
  std::string file;                // its name in the directory; empty: the path is a directory
  std::vector<std::string> names;  // of the directory's regular files, sorted

  // NotFound; InvalidArgument for what is neither directory nor file.
  static absl::StatusOr<SaePath> Open(absl::string_view path);

  bool Has(absl::string_view name) const;
  std::string At(absl::string_view name) const;
  // Whether the path may mean this file: it is the directory's, or the file itself.
  bool MayMean(absl::string_view name) const { return Has(name) && (file.empty() || file == name); }
  // The path of the torch.save file that is meant: the file itself, or ae.pt, or the only one there
  // is. Empty when there is none; InvalidArgument naming them when there are several.
  absl::StatusOr<std::string> TorchFilePath() const;
};

// What a format's files hold, before the options and folds that all formats share. The threshold of
// a TopK file that tracked one is kept too: options may select by it.
struct SaeContent {
  SaeConfig config;  // what is also in `recognition` is taken from there
  SaeParameters parameters;
  SaeRecognition recognition;
  // A scale that the weights still expect to be folded, and where it stands; 0: none.
  double norm_scaling_factor = 0;
  std::string norm_scaling_file;
};

struct SaeFormat {
  absl::string_view name;
  // The files of an SAE of this format at `path`, weights first; empty: there is none. Looks at
  // names and, where these do not tell, at what the files hold.
  absl::StatusOr<std::vector<std::string>> (*find)(const SaePath& path);
  // Reads the files that `find` gave. Parameters go to `device`.
  absl::StatusOr<SaeContent> (*read)(const std::vector<std::string>& files,
                                     const LoadSaeOptions& options, torch::Device device);
};

extern const SaeFormat kSaeLensFormat;
extern const SaeFormat kSparsifyFormat;
extern const SaeFormat kLlamaScopeFormat;
extern const SaeFormat kOpenMossFormat;
extern const SaeFormat kGemmaScopeFormat;
extern const SaeFormat kDictionaryLearningFormat;
extern const SaeFormat kOpenAiFormat;
extern const SaeFormat kStateDictFormat;

// The first that finds something reads it.
inline constexpr const SaeFormat* kSaeFormats[] = {
    &kSaeLensFormat,    &kSparsifyFormat,           &kLlamaScopeFormat, &kOpenMossFormat,
    &kGemmaScopeFormat, &kDictionaryLearningFormat, &kOpenAiFormat,     &kStateDictFormat,
};

// The weights of these files: the first one, open.
absl::StatusOr<WeightSource> OpenWeights(const std::vector<std::string>& files);
// The file of `files` with this name, read as JSON; NotFound naming it.
absl::StatusOr<nlohmann::json> ReadJsonOf(const std::vector<std::string>& files,
                                          absl::string_view name);

}  // namespace featurescope
