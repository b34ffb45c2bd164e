// Where a feature fired: the examples kept while a corpus passes by.
//
// Both collections are independent of the order of what is offered, and merge: the union of two
// parts' collections is the collection of the whole.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace featurescope {

struct WindowActivation {
  int32_t offset = 0;  // tokens from the example's centre
  float activation = 0;
  friend bool operator==(const WindowActivation&, const WindowActivation&) = default;
};

struct Example {
  float activation = 0;   // at the centre
  uint32_t position = 0;  // of the centre in its context
  uint64_t context = 0;   // of the corpus
  uint64_t priority = 0;  // a hash of feature and place: the lowest are the sample
  // Where the feature fires around the centre, itself included; ascending offsets.
  std::vector<WindowActivation> window;
  friend bool operator==(const Example&, const Example&) = default;
};

// The `limit` strongest examples, strongest first; ties go to the earlier context and position.
class TopExamples {
 public:
  explicit TopExamples(size_t limit) : limit_(limit) {}

  // False for what Insert would drop anyway.
  bool Wants(float activation) const {
    return examples_.size() < limit_ || activation >= examples_.back().activation;
  }
  void Insert(Example example);
  void Merge(TopExamples other);
  const std::vector<Example>& examples() const { return examples_; }
  friend bool operator==(const TopExamples&, const TopExamples&) = default;

 private:
  size_t limit_;  // at least 1
  std::vector<Example> examples_;
};

// Samples of a feature's activations over their range (0, max], where max is known only at the end.
//
// The range up to the next power of two above the maximum so far is cut into strata of equal width;
// each keeps its `per_stratum` activations of lowest priority, which is a uniform sample because
// priorities are hashes. When the maximum passes the power of two, the range doubles and strata
// join in pairs: the lowest of the union are among the lowest of the parts, so nothing is lost.
class StratifiedSamples {
 public:
  // As many strata as bands of equal width below the maximum need: each is wider than one stratum.
  static int StrataFor(uint32_t bands);

  // REQUIRES: `n_strata` is a power of two.  per_stratum = 0: keeps nothing.
  StratifiedSamples(int n_strata, size_t per_stratum)
      : per_stratum_(per_stratum), strata_(n_strata) {}

  // Widens the range. REQUIRES of Wants and Insert: activation <= the widest `max` so far.
  void CoverRange(float max);
  bool Wants(float activation, uint64_t priority) const {
    const std::vector<Example>& stratum = strata_[StratumOf(activation)];
    if (stratum.size() < per_stratum_) return true;
    return per_stratum_ > 0 && priority < stratum.back().priority;
  }
  void Insert(Example example);
  // REQUIRES: equal n_strata and per_stratum.
  void Merge(StratifiedSamples other);

  // By stratum, then by priority.
  std::vector<const Example*> examples() const;
  // The range is (0, 2^exponent()).
  int exponent() const { return exponent_; }
  friend bool operator==(const StratifiedSamples&, const StratifiedSamples&) = default;

 private:
  size_t StratumOf(float activation) const {
    return static_cast<size_t>(static_cast<double>(activation) * strata_per_unit_);
  }
  void SetRange(int exponent);

  size_t per_stratum_;
  int exponent_ = -200;  // below every float's
  double strata_per_unit_ = 0;
  std::vector<std::vector<Example>> strata_;  // each by ascending priority
};

}  // namespace featurescope
