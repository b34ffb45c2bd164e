#include "server/model/rotary.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/model/limits.h"

namespace featurescope {
namespace {

constexpr double kMinTheta = 1.001;  // 1 would turn all dimensions alike
constexpr double kMaxTheta = 1e12;
constexpr double kMaxFactor = 1e6;

absl::Status ReadLlama3(ConfigReader& scaling, RotaryConfig* rotary) {
  ASSIGN_OR_RETURN(rotary->low_freq_factor, scaling.Float("low_freq_factor", 1e-3, 1e6));
  ASSIGN_OR_RETURN(rotary->high_freq_factor, scaling.Float("high_freq_factor", 1e-3, 1e6));
  if (rotary->high_freq_factor <= rotary->low_freq_factor) {
    return InvalidArgument(scaling.what(), ": high_freq_factor ", rotary->high_freq_factor,
                           " is not above low_freq_factor ", rotary->low_freq_factor);
  }
  ASSIGN_OR_RETURN(rotary->original_context,
                   scaling.Int("original_max_position_embeddings", 1, kMaxContext));
  return absl::OkStatus();
}

double YarnSharpening(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

absl::Status ReadYarn(ConfigReader& scaling, int64_t* n_ctx, RotaryConfig* rotary) {
  const bool has_original = scaling.Has("original_max_position_embeddings");
  ASSIGN_OR_RETURN(rotary->original_context,
                   scaling.IntOr("original_max_position_embeddings", *n_ctx, 1, kMaxContext));
  ASSIGN_OR_RETURN(rotary->beta_fast, scaling.FloatOr("beta_fast", 32, 1e-3, 1e6));
  ASSIGN_OR_RETURN(rotary->beta_slow, scaling.FloatOr("beta_slow", 1, 1e-3, 1e6));
  ASSIGN_OR_RETURN(rotary->truncate, scaling.BoolOr("truncate", true));
  ASSIGN_OR_RETURN(const double mscale, scaling.FloatOr("mscale", 0, 0, 1e3));
  ASSIGN_OR_RETURN(const double mscale_all_dim, scaling.FloatOr("mscale_all_dim", 0, 0, 1e3));
  const double sharpening =
      mscale != 0 && mscale_all_dim != 0
          ? YarnSharpening(rotary->factor, mscale) / YarnSharpening(rotary->factor, mscale_all_dim)
          : YarnSharpening(rotary->factor, 1);
  ASSIGN_OR_RETURN(rotary->attention_factor,
                   scaling.FloatOr("attention_factor", sharpening, 1e-3, 1e3));
  if (has_original) {
    // Files differ in whether max_position_embeddings counts the stretched context.
    const double stretched = rotary->factor * static_cast<double>(rotary->original_context);
    *n_ctx = std::max(*n_ctx, static_cast<int64_t>(std::min<double>(stretched, kMaxContext)));
  }
  return absl::OkStatus();
}

// `scaling` is the object rope_scaling or rope_parameters.
absl::Status ReadScaling(ConfigReader& scaling, int64_t* n_ctx, RotaryConfig* rotary) {
  scaling.Ignore({"type", "finetuned"});
  ASSIGN_OR_RETURN(const std::string old_name, scaling.StringOr("type", "default"));
  ASSIGN_OR_RETURN(const std::string type, scaling.StringOr("rope_type", old_name));
  ASSIGN_OR_RETURN(rotary->theta,
                   scaling.FloatOr("rope_theta", rotary->theta, kMinTheta, kMaxTheta));
  if (type == "default") return scaling.CheckAllKnown();
  ASSIGN_OR_RETURN(rotary->factor, scaling.Float("factor", 1, kMaxFactor));
  if (type == "linear") {
    rotary->scaling = RopeScaling::kLinear;
  } else if (type == "dynamic") {
    rotary->scaling = RopeScaling::kDynamic;
    // HF measures a sequence against max_position_embeddings.
    scaling.Ignore({"original_max_position_embeddings"});
  } else if (type == "llama3") {
    rotary->scaling = RopeScaling::kLlama3;
    RETURN_IF_ERROR(ReadLlama3(scaling, rotary));
  } else if (type == "yarn") {
    rotary->scaling = RopeScaling::kYarn;
    RETURN_IF_ERROR(ReadYarn(scaling, n_ctx, rotary));
  } else {
    return Unimplemented(scaling.what(), ": rope type \"", type,
                         "\" is not supported; supported: default, linear, dynamic, llama3, yarn");
  }
  return scaling.CheckAllKnown();
}

// In which dimension a wave turns `rotations` times over the original context.
double DimensionOf(double rotations, const RotaryConfig& config) {
  const auto context = static_cast<double>(config.original_context);
  return static_cast<double>(config.rotary_dims) * std::log(context / (rotations * 2 * M_PI)) /
         (2 * std::log(config.theta));
}

double Llama3Frequency(double frequency, const RotaryConfig& config) {
  const double wave_length = 2 * M_PI / frequency;
  const auto original = static_cast<double>(config.original_context);
  if (wave_length > original / config.low_freq_factor) return frequency / config.factor;
  if (wave_length < original / config.high_freq_factor) return frequency;
  const double share = (original / wave_length - config.low_freq_factor) /
                       (config.high_freq_factor - config.low_freq_factor);
  return (1 - share) * frequency / config.factor + share * frequency;
}

// Frequency number i: below `low` as it was, above `high` divided by the factor.
double YarnFrequency(double frequency, int64_t i, const RotaryConfig& config) {
  double low = DimensionOf(config.beta_fast, config);
  double high = DimensionOf(config.beta_slow, config);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(config.rotary_dims - 1));
  if (low == high) high += 0.001;
  const double scaled = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
  return scaled * frequency / config.factor + (1 - scaled) * frequency;
}

}  // namespace

absl::Status ReadRotary(ConfigReader& reader, absl::string_view theta_key, double rotary_share,
                        ModelConfig* config) {
  RotaryConfig& rotary = config->rotary;
  config->positions = PositionKind::kRotary;
  rotary.rotary_dims = static_cast<int64_t>(static_cast<double>(config->d_head) * rotary_share);
  if (rotary.rotary_dims % 2 != 0 || rotary.rotary_dims == 0) {
    return InvalidArgument(reader.what(), ": ", rotary.rotary_dims, " of head_dim ", config->d_head,
                           " dimensions are rotated; they must be pairs");
  }
  ASSIGN_OR_RETURN(rotary.theta, reader.FloatOr(theta_key, 10000.0, kMinTheta, kMaxTheta));
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const nlohmann::json* value = reader.Find(key);
    if (value == nullptr) continue;
    if (!value->is_object()) return InvalidArgument(reader.what(), ": ", key, " is not an object");
    ConfigReader scaling(*value, absl::StrCat(reader.what(), ": ", key));
    RETURN_IF_ERROR(scaling.Require("partial_rotary_factor", rotary_share));
    RETURN_IF_ERROR(ReadScaling(scaling, &config->n_ctx, &rotary));
  }
  return absl::OkStatus();
}

torch::Tensor RotaryFrequencies(const RotaryConfig& config) {
  const int64_t n = config.rotary_dims / 2;
  torch::Tensor frequencies = torch::empty({n});
  float* out = frequencies.data_ptr<float>();
  for (int64_t i = 0; i < n; ++i) {
    // In float32, as the reference implementations do.
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.rotary_dims);
    const float frequency = 1.0f / std::pow(static_cast<float>(config.theta), exponent);
    switch (config.scaling) {
      case RopeScaling::kNone:
      case RopeScaling::kDynamic:
        out[i] = frequency;
        break;
      case RopeScaling::kLinear:
        out[i] = static_cast<float>(frequency / config.factor);
        break;
      case RopeScaling::kLlama3:
        out[i] = static_cast<float>(Llama3Frequency(frequency, config));
        break;
      case RopeScaling::kYarn:
        out[i] = static_cast<float>(YarnFrequency(frequency, i, config));
        break;
    }
  }
  return frequencies;
}

}  // namespace featurescope
