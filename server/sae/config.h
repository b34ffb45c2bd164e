// What an SAE is, without its numbers: architecture, sizes, normalisation, where it belongs, and
// what its files were recognised as. Torch-free.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace featurescope {

constexpr int64_t kMaxSaeWidth = 1 << 24;    // d_in, d_sae, d_out
constexpr int64_t kMaxSaeContext = 1 << 24;  // tokens

// How an activation vector is scaled before the encoder and back after the decoder.
enum class NormalizeActivations {
  kNone,
  kExpectedAverageOnlyIn,  // nothing at run time: the scale is folded into the weights
  kConstantNormRescale,    // x sqrt(d_in) / |x|, and back
  kLayerNorm,              // (x - mean) / (std + 1e-5), unbiased std, and back
};
// As cfg.json spells it.
absl::string_view NormalizeActivationsName(NormalizeActivations mode);
std::optional<NormalizeActivations> FindNormalizeActivations(absl::string_view name);

struct SaeConfig {
  // A name of kSaeArchitectures (architectures.h): "standard", "topk", "jumprelu", "batchtopk", ...
  std::string architecture;
  int64_t d_in = 0;
  int64_t d_sae = 0;
  int64_t d_out = 0;  // of the decoder; 0: d_in (Sae::Create writes it out)
  // topk, groupmax: features of a row at most. batchtopk: features of a row on average, which only
  // whole_batch uses; 0: not known.
  int64_t k = 0;
  // batchtopk: true, the k n largest of the n rows encoded together, as in training; false, what
  // exceeds the threshold.
  bool whole_batch = false;
  // matryoshka_batchtopk: sizes of the nested groups, first group first; their sum is d_sae.
  std::vector<int64_t> group_sizes;
  // Transcoders: always false.
  bool apply_b_dec_to_input = true;
  NormalizeActivations normalize_activations = NormalizeActivations::kNone;
  // Activations are hidden_pre |W_dec row|, and are divided by that norm again before the decoder.
  // topk and batchtopk select by the product; jumprelu compares hidden_pre with its threshold.
  bool rescale_acts_by_decoder_norm = false;
  bool reshape_hook_z = false;  // x is [n, head, d_head], flattened
  // From the file's metadata; may be empty or 0.
  std::string model_name;
  std::string hook_name;      // TransformerLens' name
  std::string hook_name_out;  // transcoders: where the output belongs
  int64_t context_size = 0;   // tokens
  bool prepend_bos = true;
  std::string format;  // what the files were recognised as, e.g. "SAELens 6.18.0"
};

// Whether an architecture maps one hook point to another: b_dec is never taken off the input, and
// the normalisation of the input is not undone.
bool IsTranscoder(absl::string_view architecture);

// How hidden_pre becomes activations, in words: "ReLU", "the 32 largest of a token", ...
std::string DescribeActivation(const SaeConfig& config);

// What reading an SAE's files found, for people. Empty fields: the files do not say.
struct SaeRecognition {
  std::string format;         // e.g. "SAELens 6.18.0", "Gemma Scope", "dictionary_learning"
  std::string weights_file;   // path
  std::string dtype;          // of the weights in the file, e.g. "float32"
  std::string model_name;     // as the file spells it
  std::string hook_as_given;  // as the file spells it, e.g. "layers.3.mlp"
  std::string hook_name;      // the same as TransformerLens names it; empty: ask
  std::string hook_name_out;  // transcoders
  int64_t context_size = 0;   // tokens
  std::optional<bool> prepend_bos;
  // Whether the model's writing weights were centred for training.
  std::optional<bool> center_writing_weights;
  // What was folded into the weights, each with its value, e.g. "input scale 0.37
  // (activation_scaler.json)".
  std::vector<std::string> folds;
  // Why it was loaded as it was, where that is not plain, e.g. "batchtopk, by its threshold 0.53".
  std::vector<std::string> notes;
  // What a user should check: settings that were guessed, or that make results doubtful.
  std::vector<std::string> warnings;
};

}  // namespace featurescope
