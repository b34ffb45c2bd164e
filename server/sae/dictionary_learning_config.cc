#include "server/sae/dictionary_learning_config.h"

#include "server/base/hook_point.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/sae/hook_names.h"

namespace featurescope {

using nlohmann::json;

absl::StatusOr<DictionaryLearningConfig> ParseDictionaryLearningConfig(const json& cfg,
                                                                       absl::string_view path) {
  const json* nested = JsonFind(cfg, "trainer");
  const json& trainer = nested != nullptr ? *nested : cfg;
  if (!trainer.is_object()) return InvalidArgument(path, ": trainer is no JSON object");
  DictionaryLearningConfig result;
  ASSIGN_OR_RETURN(result.dict_class, JsonStringOr(trainer, "dict_class", path, ""));
  ASSIGN_OR_RETURN(result.activation_dim,
                   JsonIntOr(trainer, "activation_dim", path, 0, 1, kMaxSaeWidth));
  ASSIGN_OR_RETURN(result.dict_size, JsonIntOr(trainer, "dict_size", path, 0, 1, kMaxSaeWidth));
  ASSIGN_OR_RETURN(result.k, JsonIntOr(trainer, "k", path, 0, 1, kMaxSaeWidth));

  SaeRecognition& found = result.recognition;
  ASSIGN_OR_RETURN(found.model_name, JsonStringOr(trainer, "lm_name", path, ""));
  ASSIGN_OR_RETURN(found.hook_as_given, JsonStringOr(trainer, "submodule_name", path, ""));
  ASSIGN_OR_RETURN(const int64_t layer, JsonIntOr(trainer, "layer", path, -1, -1, kMaxSaeContext));
  if (found.hook_as_given.empty() && layer >= 0) {
    found.notes.push_back(absl::StrCat("trained at layer ", layer,
                                       "; which submodule's output or "
                                       "input it reads the file does not say"));
  }
  std::string io = "out";
  if (const json* buffer = JsonFind(cfg, "buffer"); buffer != nullptr) {
    ASSIGN_OR_RETURN(found.context_size, JsonIntOr(*buffer, "ctx_len", path, 0, 0, kMaxSaeContext));
    ASSIGN_OR_RETURN(io, JsonStringOr(*buffer, "io", path, "out"));
  }
  // We write our own names; a module's input has no name that all models share.
  if (HookPoint::Parse(found.hook_as_given).ok()) {
    found.hook_name = found.hook_as_given;
  } else if (io == "out") {
    found.hook_name = DictionaryLearningHook(found.hook_as_given, FamilyOfModel(found.model_name));
  }
  return result;
}

}  // namespace featurescope
