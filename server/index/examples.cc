#include "server/index/examples.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace featurescope {
namespace {

bool Stronger(const Example& a, const Example& b) {
  if (a.activation != b.activation) return a.activation > b.activation;
  if (a.context != b.context) return a.context < b.context;
  return a.position < b.position;
}

bool LowerPriority(const Example& a, const Example& b) { return a.priority < b.priority; }

// Puts `example` into its place and drops what is then beyond `limit`.
template <typename Before>
void InsertSorted(std::vector<Example>& examples, Example example, size_t limit, Before before) {
  auto place = std::upper_bound(examples.begin(), examples.end(), example, before);
  if (examples.size() >= limit) {
    if (place == examples.end()) return;
    std::move_backward(place, examples.end() - 1, examples.end());
    *place = std::move(example);
  } else {
    examples.insert(place, std::move(example));
  }
}

// The first `limit` of both.
template <typename Before>
void MergeSorted(std::vector<Example>& into, std::vector<Example>& from, size_t limit,
                 Before before) {
  std::vector<Example> merged;
  merged.reserve(into.size() + from.size());
  std::merge(std::make_move_iterator(into.begin()), std::make_move_iterator(into.end()),
             std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()),
             std::back_inserter(merged), before);
  if (merged.size() > limit) merged.resize(limit);
  into = std::move(merged);
  from.clear();
}

}  // namespace

void TopExamples::Insert(Example example) {
  InsertSorted(examples_, std::move(example), limit_, Stronger);
}

void TopExamples::Merge(TopExamples other) {
  MergeSorted(examples_, other.examples_, limit_, Stronger);
}

int StratifiedSamples::StrataFor(uint32_t bands) {
  // The maximum is at least half the range, so a band is at least 1.5 strata wide.
  int strata = 1;
  while (strata < static_cast<int>(3 * bands)) strata *= 2;
  return strata;
}

void StratifiedSamples::CoverRange(float max) { SetRange(std::ilogb(max) + 1); }

void StratifiedSamples::SetRange(int exponent) {
  if (exponent <= exponent_) return;
  const int shift = std::min(exponent - exponent_, 30);
  for (size_t i = 1; i < strata_.size(); ++i) {
    if (strata_[i].empty()) continue;
    MergeSorted(strata_[i >> shift], strata_[i], per_stratum_, LowerPriority);
  }
  exponent_ = exponent;
  strata_per_unit_ = std::ldexp(static_cast<double>(strata_.size()), -exponent);
}

void StratifiedSamples::Insert(Example example) {
  InsertSorted(strata_[StratumOf(example.activation)], std::move(example), per_stratum_,
               LowerPriority);
}

void StratifiedSamples::Merge(StratifiedSamples other) {
  const int exponent = std::max(exponent_, other.exponent_);
  SetRange(exponent);
  other.SetRange(exponent);
  for (size_t i = 0; i < strata_.size(); ++i) {
    MergeSorted(strata_[i], other.strata_[i], per_stratum_, LowerPriority);
  }
}

std::vector<const Example*> StratifiedSamples::examples() const {
  std::vector<const Example*> all;
  for (const std::vector<Example>& stratum : strata_) {
    for (const Example& example : stratum) all.push_back(&example);
  }
  return all;
}

}  // namespace featurescope
