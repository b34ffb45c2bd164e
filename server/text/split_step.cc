#include "server/text/split_step.h"

#include <string>
#include <utility>

#include "server/base/status.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

class SplitStep final : public PreTokenizer {
 public:
  SplitStep(std::unique_ptr<const SplitPattern> pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  absl::Status Split(const TextPart& part, OnTextPart on_part) const override {
    const auto emit = [&](size_t begin, size_t end) -> absl::Status {
      if (begin == end) return absl::OkStatus();
      const bool first = begin == 0;
      return on_part({part.text.substr(begin, end - begin), first && part.opens_text,
                      first && part.continues});
    };
    if (behavior_ == SplitBehavior::kIsolated || behavior_ == SplitBehavior::kRemoved) {
      const bool drop = behavior_ == SplitBehavior::kRemoved;
      return pattern_->ForEachPart(part.text, [&](size_t begin, size_t end, bool is_match) {
        return drop && is_match != invert_ ? absl::OkStatus() : emit(begin, end);
      });
    }
    // One part is held back until it is known whether the next one joins it.
    size_t held_begin = 0, held_end = 0;
    bool held = false;
    bool last_is_match = false;
    RETURN_IF_ERROR(pattern_->ForEachPart(
        part.text, [&](size_t begin, size_t end, bool is_match) -> absl::Status {
          const bool match = is_match != invert_;
          const bool joins = held && Joins(last_is_match, match);
          last_is_match = match;
          if (joins) {
            held_end = end;
            return absl::OkStatus();
          }
          const bool was_held = std::exchange(held, true);
          const size_t emit_begin = std::exchange(held_begin, begin);
          const size_t emit_end = std::exchange(held_end, end);
          return was_held ? emit(emit_begin, emit_end) : absl::OkStatus();
        }));
    return held ? emit(held_begin, held_end) : absl::OkStatus();
  }

 private:
  bool Joins(bool last_is_match, bool is_match) const {
    switch (behavior_) {
      case SplitBehavior::kMergedWithPrevious:
        return is_match && !last_is_match;
      case SplitBehavior::kMergedWithNext:
        return last_is_match && !is_match;
      default:
        return last_is_match == is_match;
    }
  }

  const std::unique_ptr<const SplitPattern> pattern_;
  const SplitBehavior behavior_;
  const bool invert_;
};

}  // namespace

absl::StatusOr<SplitBehavior> ReadSplitBehavior(const JsonSection& section, absl::string_view key) {
  static constexpr std::pair<absl::string_view, SplitBehavior> kBehaviors[] = {
      {"Isolated", SplitBehavior::kIsolated},
      {"Removed", SplitBehavior::kRemoved},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous},
  };
  ASSIGN_OR_RETURN(const std::string name, section.String(key));
  for (const auto& [known, behavior] : kBehaviors) {
    if (known == absl::string_view(name)) return behavior;
  }
  return Unimplemented(section.where(), ": ", key, " ", PrintableUtf8(name, 60),
                       " is not supported");
}

std::unique_ptr<const PreTokenizer> MakeSplitStep(std::unique_ptr<const SplitPattern> pattern,
                                                  SplitBehavior behavior, bool invert) {
  return std::make_unique<SplitStep>(std::move(pattern), behavior, invert);
}

}  // namespace featurescope
