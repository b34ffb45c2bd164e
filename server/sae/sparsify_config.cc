#include "server/sae/sparsify_config.h"

#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/sae/hook_names.h"

namespace featurescope {
namespace {

using nlohmann::json;

// The architecture for its activation, and for whether it maps a module's input to its output.
absl::StatusOr<std::string> Architecture(const json& cfg, absl::string_view path, bool transcode) {
  ASSIGN_OR_RETURN(const std::string activation, JsonStringOr(cfg, "activation", path, "topk"));
  ASSIGN_OR_RETURN(const bool is_signed, JsonBoolOr(cfg, "signed", path, false));
  ASSIGN_OR_RETURN(const bool skip, JsonBoolOr(cfg, "skip_connection", path, false));
  if (is_signed) {
    return Unimplemented(path, ": signed is set; negative activations are not supported");
  }
  if (skip && !transcode) {
    return Unimplemented(path, ": skip_connection without transcode is not supported");
  }
  if (activation == "topk") {
    return std::string(!transcode ? "topk" : skip ? "topk_skip_transcoder" : "topk_transcoder");
  }
  if (activation == "groupmax" && !transcode) return std::string("groupmax");
  return Unimplemented(path, ": activation '", activation, "'", transcode ? " with transcode" : "",
                       " is not supported");
}

absl::StatusOr<int64_t> NumLatents(const json& cfg, absl::string_view path, int64_t d_in) {
  ASSIGN_OR_RETURN(const int64_t latents, JsonIntOr(cfg, "num_latents", path, 0, 0, kMaxSaeWidth));
  if (latents > 0) return latents;
  ASSIGN_OR_RETURN(const int64_t factor,
                   JsonIntOr(cfg, "expansion_factor", path, 32, 1, kMaxSaeWidth));
  if (factor > kMaxSaeWidth / d_in) {
    return InvalidArgument(path, ": expansion_factor ", factor, " times d_in ", d_in,
                           " is over the limit of ", kMaxSaeWidth, " features");
  }
  return d_in * factor;
}

}  // namespace

absl::StatusOr<SparsifyConfig> ParseSparsifyConfig(const json& cfg, absl::string_view hookpoint,
                                                   absl::string_view path) {
  if (!cfg.is_object()) return InvalidArgument(path, ": not a JSON object");
  SparsifyConfig result;
  SaeConfig& config = result.config;
  ASSIGN_OR_RETURN(const bool transcode, JsonBoolOr(cfg, "transcode", path, false));
  ASSIGN_OR_RETURN(config.architecture, Architecture(cfg, path, transcode));
  ASSIGN_OR_RETURN(config.d_in, JsonInt(cfg, "d_in", path, 1, kMaxSaeWidth));
  config.d_out = config.d_in;
  ASSIGN_OR_RETURN(config.d_sae, NumLatents(cfg, path, config.d_in));
  ASSIGN_OR_RETURN(config.k, JsonInt(cfg, "k", path, 1, config.d_sae));
  config.apply_b_dec_to_input = !transcode;

  SaeRecognition& found = result.recognition;
  found.format = "sparsify";
  ASSIGN_OR_RETURN(const bool multi, JsonBoolOr(cfg, "multi_topk", path, false));
  if (multi) {
    found.notes.push_back(
        "multi_topk belongs to training: features are the k largest, and the reconstruction is "
        "theirs, not that of the 4 k largest that sparsify's forward() ends with");
  }
  const HookNames hook = ModuleHook(hookpoint, ModelFamily::kUnknown, transcode);
  found.hook_name = hook.in;
  if (transcode) found.hook_name_out = hook.out;
  // A directory of another name says nothing; one of a module's says where, if not always enough.
  const bool names_a_module = !ModuleHook(hookpoint, ModelFamily::kGpt2).in.empty();
  if (names_a_module) found.hook_as_given = std::string(hookpoint);
  if (names_a_module && hook.in.empty()) {
    found.notes.push_back(absl::StrCat("the directory's name ", hookpoint,
                                       " is one of our hook points for some models only"));
  }
  return result;
}

}  // namespace featurescope
