#include "server/sae/hook_names.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace featurescope {
namespace {

constexpr uint32_t kMaxLayer = 4096;

// A layer's number at the end of `text` is cut off and returned.
std::optional<uint32_t> ConsumeLayer(absl::string_view* text) {
  size_t digits = text->size();
  while (digits > 0 && absl::ascii_isdigit(text->at(digits - 1))) --digits;
  uint32_t layer = 0;
  if (digits == text->size() || !absl::SimpleAtoi(text->substr(digits), &layer) ||
      layer > kMaxLayer) {
    return std::nullopt;
  }
  text->remove_suffix(text->size() - digits);
  return layer;
}

std::string InBlock(uint32_t layer, absl::string_view hook) {
  return absl::StrCat("blocks.", layer, ".", hook);
}

// A site that a whole block, its attention or its MLP writes to; empty for others.
absl::string_view OutputOf(absl::string_view part, ModelFamily family) {
  if (part == "resid") return "hook_resid_post";
  // A norm stands between the module's output and what TransformerLens calls by this name.
  if (family == ModelFamily::kGemma2) return "";
  if (part == "mlp") return "hook_mlp_out";
  if (part == "attn") return "hook_attn_out";
  return "";
}

}  // namespace

ModelFamily FamilyOfModel(absl::string_view model_name) {
  const std::string name = absl::AsciiStrToLower(model_name);
  const auto has = [&name](absl::string_view part) { return absl::StrContains(name, part); };
  if (has("gemma-2") || has("gemma2") || has("gemma-3") || has("gemma3")) {
    // "gemma-2b" is of the first generation.
    if (!has("gemma-2b")) return ModelFamily::kGemma2;
  }
  if (has("gpt2") || has("pythia") || has("neox")) return ModelFamily::kGpt2;
  if (has("llama") || has("mistral") || has("qwen") || has("gemma")) return ModelFamily::kLlama;
  return ModelFamily::kUnknown;
}

HookNames ModuleHook(absl::string_view module, ModelFamily family, bool transcoder) {
  for (absl::string_view prefix : {"transformer.", "gpt_neox.", "model."}) {
    absl::ConsumePrefix(&module, prefix);
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(module, '.');
  uint32_t layer = 0;
  if (parts.size() < 2 || (parts[0] != "layers" && parts[0] != "h") ||
      !absl::SimpleAtoi(parts[1], &layer) || layer > kMaxLayer) {
    return {};
  }
  const std::string part = absl::StrCat(parts.size() > 2 ? parts[2] : "resid",
                                        parts.size() > 3 ? absl::StrCat(".", parts[3]) : "");
  if (parts.size() > 4) return {};
  const bool gpt2 = parts[0] == "h";
  if (transcoder) {
    if (part == "resid") {
      return {InBlock(layer, "hook_resid_pre"), InBlock(layer, "hook_resid_post")};
    }
    // After an RMSNorm a module's input is multiplied by a weight that no hook point comes behind.
    if (!gpt2 && family != ModelFamily::kGpt2) return {};
    if (part == "mlp") {
      return {InBlock(layer, "ln2.hook_normalized"), InBlock(layer, "hook_mlp_out")};
    }
    if (part == "attn" || part == "attention") {
      return {InBlock(layer, "ln1.hook_normalized"), InBlock(layer, "hook_attn_out")};
    }
    return {};
  }
  std::string hook;
  if (part == "mlp.act") {
    // A gated MLP multiplies once more before its output matrix.
    if (gpt2 || family == ModelFamily::kGpt2) hook = InBlock(layer, "mlp.hook_post");
  } else if (part == "resid" || gpt2 || family != ModelFamily::kUnknown) {
    const absl::string_view site =
        OutputOf(part == "attention" || part == "self_attn" ? "attn" : part, family);
    if (!site.empty()) hook = InBlock(layer, site);
  }
  return {hook, hook};
}

std::string DictionaryLearningHook(absl::string_view submodule, ModelFamily family) {
  absl::string_view rest = submodule;
  const std::optional<uint32_t> layer = ConsumeLayer(&rest);
  if (!layer.has_value()) return "";
  absl::ConsumeSuffix(&rest, "_");
  if (!absl::ConsumeSuffix(&rest, "_layer")) return "";
  static constexpr std::pair<absl::string_view, absl::string_view> kSites[] = {
      {"resid_post", "resid"}, {"resid", "resid"},       {"resid_out", "resid"},
      {"mlp_out", "mlp"},      {"mlp", "mlp"},           {"attn_out", "attn"},
      {"attn", "attn"},        {"attention_out", "attn"}};
  for (const auto& [name, part] : kSites) {
    if (rest != name) continue;
    const absl::string_view site = OutputOf(part, family);
    return site.empty() ? "" : InBlock(*layer, site);
  }
  return "";
}

PathFacts GemmaScopePath(absl::string_view path) {
  PathFacts facts;
  absl::string_view site;
  std::optional<uint32_t> layer;
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    // The hub's cache: models--google--gemma-scope-2b-pt-res.
    const std::vector<absl::string_view> nested = absl::StrSplit(part, "--");
    absl::string_view repo = nested.back();
    if (absl::ConsumePrefix(&repo, "gemma-scope-")) {
      const std::vector<absl::string_view> words = absl::StrSplit(repo, '-');
      if (words.size() < 3) continue;
      facts.model_name = absl::StrCat("google/gemma-2-", words[0], words[1] == "it" ? "-it" : "");
      site = words[2];
      facts.as_given = std::string(nested.back());
    } else if (absl::StartsWith(part, "layer_")) {
      layer = ConsumeLayer(&part);
    } else if (part == "embedding") {
      facts.embedding = true;
    }
  }
  if (facts.embedding) {
    absl::StrAppend(&facts.as_given, facts.as_given.empty() ? "" : "/", "embedding");
    facts.hook = {"hook_embed", "hook_embed"};
    return facts;
  }
  facts.transcoder = site == "transcoders";
  if (!layer.has_value()) return facts;
  absl::StrAppend(&facts.as_given, facts.as_given.empty() ? "" : "/", "layer_", *layer);
  const auto at = [&](absl::string_view in, absl::string_view out) {
    facts.hook = {InBlock(*layer, in), InBlock(*layer, out)};
  };
  if (site == "res") at("hook_resid_post", "hook_resid_post");
  if (site == "mlp") at("hook_mlp_out", "hook_mlp_out");
  if (site == "att") at("attn.hook_z", "attn.hook_z");
  if (facts.transcoder) at("ln2.hook_normalized", "hook_mlp_out");
  return facts;
}

PathFacts OpenAiPath(absl::string_view path) {
  static constexpr std::pair<absl::string_view, absl::string_view> kLocations[] = {
      {"mlp_post_act", "mlp.hook_post"},     {"resid_delta_attn", "hook_attn_out"},
      {"resid_delta_mlp", "hook_mlp_out"},   {"resid_post_attn", "hook_resid_mid"},
      {"resid_post_mlp", "hook_resid_post"},
  };
  PathFacts facts;
  const std::vector<absl::string_view> parts = absl::StrSplit(path, '/');
  absl::string_view file = parts.back();
  if (!absl::ConsumeSuffix(&file, ".pt")) return facts;
  const std::optional<uint32_t> layer = ConsumeLayer(&file);
  if (!layer.has_value() || !file.empty()) return facts;
  for (const absl::string_view part : parts) {
    for (const auto& [location, hook] : kLocations) {
      if (part != location && !absl::StartsWith(part, absl::StrCat(location, "_v"))) continue;
      facts.as_given = absl::StrCat(part, "/", parts.back());
      facts.model_name = "gpt2-small";
      facts.hook = {InBlock(*layer, hook), InBlock(*layer, hook)};
    }
  }
  return facts;
}

}  // namespace featurescope
