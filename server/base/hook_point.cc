#include "server/base/hook_point.h"

#include <array>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

struct Name {
  HookKind kind;
  absl::string_view suffix;  // after `blocks.L.` for hooks in a block
};

constexpr int kKinds = static_cast<int>(HookKind::kLnFinal) + 1;

constexpr std::array<Name, kKinds> kNames = {{
    {HookKind::kEmbed, "hook_embed"},
    {HookKind::kPosEmbed, "hook_pos_embed"},
    {HookKind::kResidPre, "hook_resid_pre"},
    {HookKind::kLn1Normalized, "ln1.hook_normalized"},
    {HookKind::kQ, "attn.hook_q"},
    {HookKind::kK, "attn.hook_k"},
    {HookKind::kV, "attn.hook_v"},
    {HookKind::kAttnScores, "attn.hook_attn_scores"},
    {HookKind::kPattern, "attn.hook_pattern"},
    {HookKind::kZ, "attn.hook_z"},
    {HookKind::kAttnOut, "hook_attn_out"},
    {HookKind::kResidMid, "hook_resid_mid"},
    {HookKind::kLn2Normalized, "ln2.hook_normalized"},
    {HookKind::kMlpPre, "mlp.hook_pre"},
    {HookKind::kMlpPreLinear, "mlp.hook_pre_linear"},
    {HookKind::kMlpPost, "mlp.hook_post"},
    {HookKind::kMlpOut, "hook_mlp_out"},
    {HookKind::kResidPost, "hook_resid_post"},
    {HookKind::kLnFinal, "ln_final.hook_normalized"},
}};

constexpr int kMaxLayer = 9999;

}  // namespace

bool IsInBlock(HookKind kind) {
  return kind != HookKind::kEmbed && kind != HookKind::kPosEmbed && kind != HookKind::kLnFinal;
}

absl::StatusOr<HookPoint> HookPoint::Parse(absl::string_view name) {
  HookPoint hook;
  absl::string_view suffix = name;
  bool in_block = false;
  if (absl::StartsWith(name, "blocks.")) {
    suffix.remove_prefix(7);
    const size_t dot = suffix.find('.');
    const absl::string_view digits = suffix.substr(0, dot);
    in_block = dot != absl::string_view::npos && !digits.empty() && digits.size() <= 4 &&
               digits.find_first_not_of("0123456789") == absl::string_view::npos &&
               absl::SimpleAtoi(digits, &hook.layer) && hook.layer <= kMaxLayer;
    if (in_block) suffix.remove_prefix(dot + 1);
  }
  for (const Name& known : kNames) {
    if (known.suffix == suffix && IsInBlock(known.kind) == in_block) {
      hook.kind = known.kind;
      return hook;
    }
  }
  std::string forms;
  for (const Name& known : kNames) {
    absl::StrAppend(&forms, forms.empty() ? "" : ", ", IsInBlock(known.kind) ? "blocks.L." : "",
                    known.suffix);
  }
  return InvalidArgument("\"", name, "\" is not a hook point; known are: ", forms);
}

std::string HookPoint::name() const {
  const absl::string_view suffix = kNames[static_cast<size_t>(kind)].suffix;
  return IsInBlock(kind) ? absl::StrCat("blocks.", layer, ".", suffix) : std::string(suffix);
}

int ExecutionOrder(const HookPoint& hook, int n_layers) {
  const int layer = hook.kind == HookKind::kLnFinal ? n_layers
                    : IsInBlock(hook.kind)          ? hook.layer
                                                    : -1;
  return (layer + 1) * kKinds + static_cast<int>(hook.kind);
}

}  // namespace featurescope
