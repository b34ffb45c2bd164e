#include "server/train/spec.h"

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/train/activation_files.h"
#include "server/train/activation_stream.h"
#include "server/train/sae_trainer.h"
#include "server/train/spec_fields.h"

namespace featurescope {
namespace {

constexpr std::array<std::pair<absl::string_view, ActivationFamily>, 6> kFamilies = {{
    {"standard", ActivationFamily::kRelu},
    {"topk", ActivationFamily::kTopK},
    {"batchtopk", ActivationFamily::kBatchTopK},
    {"matryoshka_batchtopk", ActivationFamily::kMatryoshka},
    {"jumprelu", ActivationFamily::kJumpRelu},
    {"gated", ActivationFamily::kGated},
}};

// Writes field after field as text.
class Describer {
 public:
  template <typename T>
  void operator()(absl::string_view name, const T& value) {
    if (absl::StartsWith(name, "checkpoint_") || absl::StartsWith(name, "heldout_")) return;
    absl::StrAppend(&text_, name, "=", Text(value), ";");
  }
  std::string text() && { return std::move(text_); }

 private:
  template <typename T>
  static std::string Text(const T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      return value;
    } else if constexpr (std::is_enum_v<T>) {
      return std::string(EnumName(value));
    } else {
      return nlohmann::json(value).dump();  // exactly, where StrCat would round
    }
  }
  template <typename T>
  static std::string Text(const std::optional<T>& value) {
    return value ? Text(*value) : "unset";
  }

  std::string text_;
};

}  // namespace

absl::string_view DecoderBiasInitName(DecoderBiasInit init) { return EnumName(init); }

std::string DescribeComputation(const TrainingSpec& spec) {
  Describer describer;
  VisitTrainingSpec(spec, describer);
  return std::move(describer).text();
}

std::optional<ArchitectureTraits> FindArchitectureTraits(absl::string_view architecture) {
  ArchitectureTraits traits;
  for (const auto& [name, family] : kFamilies) {
    traits.family = family;
    if (name == architecture) return traits;
  }
  if (architecture == "transcoder" || architecture == "skip_transcoder") {
    return ArchitectureTraits{ActivationFamily::kRelu, true, architecture[0] == 's'};
  }
  traits.transcoder = absl::ConsumeSuffix(&architecture, "_transcoder");
  traits.skip = absl::ConsumeSuffix(&architecture, "_skip");
  for (const ActivationFamily family : {ActivationFamily::kTopK, ActivationFamily::kJumpRelu}) {
    traits.family = family;
    const absl::string_view name = family == ActivationFamily::kTopK ? "topk" : "jumprelu";
    if (traits.transcoder && architecture == name) return traits;
  }
  return std::nullopt;
}

ArchitectureTraits TraitsOf(const TrainingSpec& spec) {
  return FindArchitectureTraits(spec.architecture).value_or(ArchitectureTraits());
}

absl::StatusOr<TrainingWidths> WidthsOf(const TrainingInputs& inputs) {
  TrainingWidths widths;
  const auto find = [&](const HookPoint& hook, size_t place) -> absl::StatusOr<int64_t> {
    if (inputs.activations == nullptr) return inputs.model->config().HookWidth(hook);
    ASSIGN_OR_RETURN(const size_t channel, inputs.activations->FindChannel(hook, place));
    return inputs.activations->channels()[channel].width;
  };
  const auto width_of = [&](const HookPoint& hook, size_t place,
                            absl::string_view field) -> absl::StatusOr<int64_t> {
    absl::StatusOr<int64_t> width = find(hook, place);
    if (!width.ok()) return InvalidField(field, field, ": ", width.status().message());
    return width;
  };
  ASSIGN_OR_RETURN(widths.d_in, width_of(inputs.hook, 0, "hook_name"));
  widths.d_out = widths.d_in;
  if (inputs.hook_out) {
    ASSIGN_OR_RETURN(widths.d_out, width_of(*inputs.hook_out, 1, "hook_name_out"));
  }
  return widths;
}

int64_t TotalSteps(const TrainingSpec& resolved) {
  const auto batch = static_cast<uint64_t>(resolved.batch_size);
  return static_cast<int64_t>((resolved.tokens + batch - 1) / batch);
}

uint64_t StreamMemoryBytes(const TrainingSpec& resolved, int64_t width) {
  return ActivationStream::MemoryBytes(resolved, width) +
         sizeof(float) * static_cast<uint64_t>(width) * resolved.heldout_tokens;
}

uint64_t TrainingMemoryBytes(const TrainingSpec& resolved, const TrainingWidths& widths) {
  const int64_t width = widths.d_in + (TraitsOf(resolved).transcoder ? widths.d_out : 0);
  return SaeTrainer::MemoryBytes(resolved, widths) + StreamMemoryBytes(resolved, width);
}

absl::Status CheckTrainingMemory(const TrainingSpec& resolved, const TrainingWidths& widths,
                                 uint64_t available) {
  const uint64_t needed = TrainingMemoryBytes(resolved, widths);
  if (needed <= available) return absl::OkStatus();
  const auto mib = [](uint64_t bytes) { return bytes >> 20; };
  TrainingSpec smaller = resolved;
  smaller.buffer_tokens = static_cast<uint64_t>(resolved.batch_size);
  if (TrainingMemoryBytes(smaller, widths) <= available) {
    uint64_t fits = smaller.buffer_tokens;
    for (uint64_t too_many = resolved.buffer_tokens; too_many - fits > 1;) {
      smaller.buffer_tokens = fits + (too_many - fits) / 2;
      const bool fit = TrainingMemoryBytes(smaller, widths) <= available;
      (fit ? fits : too_many) = smaller.buffer_tokens;
    }
    return InvalidField("buffer_tokens", "the run would hold ", mib(needed), " MiB, but only ",
                        mib(available), " MiB are there; buffer_tokens ", fits, " instead of ",
                        resolved.buffer_tokens, " would fit");
  }
  smaller = resolved;
  smaller.group_sizes.clear();
  while (smaller.d_sae > 1 && TrainingMemoryBytes(smaller, widths) > available) {
    smaller.d_sae /= 2;
  }
  if (TrainingMemoryBytes(smaller, widths) > available) {
    return InvalidField("batch_size", "the run would hold ", mib(needed), " MiB, but only ",
                        mib(available), " MiB are there; it needs a smaller batch_size than ",
                        resolved.batch_size, " and less buffer_tokens and heldout_tokens");
  }
  return InvalidField("d_sae", "the run would hold ", mib(needed), " MiB, but only ",
                      mib(available), " MiB are there; d_sae ", smaller.d_sae, " instead of ",
                      resolved.d_sae, " would fit");
}

uint64_t TrainingMemoryBytes(const TrainingSpec& resolved, int64_t d_in) {
  return TrainingMemoryBytes(resolved, TrainingWidths{d_in, d_in});
}

}  // namespace featurescope
