// Observers and editors of a forward pass.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "server/base/hook_point.h"
#include "server/tensor/torch.h"

namespace featurescope {

// Where in the batch a hooked value belongs.
struct HookContext {
  HookPoint hook;
  // The sequences that `value` covers. All of them, except for attention scores and patterns, which
  // come in groups of sequences of equal length.
  int64_t first_sequence = 0;
  int64_t n_sequences = 0;
};

// Called when the pass reaches the hook point. `value` is [packed tokens, ...] (see HookKind), for
// scores and patterns [n_sequences, head, query, key]. An editor assigns a new tensor of the same
// shape to it; it must not write into the old one in place unless it cloned it.
using HookFn = std::function<void(const HookContext& context, torch::Tensor& value)>;

// The hooks of one forward pass; functions at the same point run in the order they were added.
class HookSet {
 public:
  void Add(HookPoint hook, HookFn function) { hooks_.emplace_back(hook, std::move(function)); }
  bool empty() const { return hooks_.empty(); }
  bool Wants(const HookPoint& hook) const {
    for (const auto& entry : hooks_) {
      if (entry.first == hook) return true;
    }
    return false;
  }
  void Run(const HookContext& context, torch::Tensor& value) const {
    for (const auto& entry : hooks_) {
      if (entry.first == context.hook) entry.second(context, value);
    }
  }
  const std::vector<std::pair<HookPoint, HookFn>>& entries() const { return hooks_; }

 private:
  std::vector<std::pair<HookPoint, HookFn>> hooks_;
};

}  // namespace featurescope
