// A sparse autoencoder: x -> feature_acts -> x_hat. Immutable after construction; const is
// thread-safe. One architecture is one small file behind this interface.
//
//   hidden_pre   = (x - b_dec) W_enc + b_enc     [n, d_sae]   b_dec: if apply_b_dec_to_input
//   feature_acts = activation(hidden_pre)        [n, d_sae]
//   x_hat        = feature_acts W_dec + b_dec    [n, d_in]
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/tensor/sparse_rows.h"
#include "server/tensor/torch.h"

namespace featurescope {

// How an activation vector is scaled before the encoder and back after the decoder.
enum class NormalizeActivations {
  kNone,
  kExpectedAverageOnlyIn,  // nothing at run time: the scale is folded into the weights
  kConstantNormRescale,    // x sqrt(d_in) / |x|, and back
  kLayerNorm,              // (x - mean) / (std + 1e-5), unbiased std, and back
};
absl::string_view NormalizeActivationsName(NormalizeActivations mode);

struct SaeConfig {
  std::string architecture;  // "standard", "topk"
  int64_t d_in = 0;
  int64_t d_sae = 0;
  int64_t k = 0;  // topk only
  bool apply_b_dec_to_input = true;
  NormalizeActivations normalize_activations = NormalizeActivations::kNone;
  bool rescale_acts_by_decoder_norm = false;  // topk: score = hidden_pre * |W_dec row|
  bool reshape_hook_z = false;                // x is [n, head, d_head], flattened
  // From the file's metadata; may be empty or 0.
  std::string model_name;
  std::string hook_name;
  int64_t context_size = 0;  // tokens
  bool prepend_bos = true;
  std::string format;  // what the files were recognised as, e.g. "SAELens 6.18.0"
};

struct SaeParameters {
  torch::Tensor W_enc;  // [d_in, d_sae]
  torch::Tensor b_enc;  // [d_sae]
  torch::Tensor W_dec;  // [d_sae, d_in]
  torch::Tensor b_dec;  // [d_in]
};

// What the normalisation took off each row, to be put back by Decode. Undefined tensors: nothing.
struct RowNormalization {
  torch::Tensor scale;  // [n, 1]
  torch::Tensor shift;  // [n, 1]
};

struct EncodedRows {
  SparseRows acts;  // [n, d_sae], in the SAE's own units
  RowNormalization normalization;
};

class Sae {
 public:
  // Makes an SAE of the architecture that `config` names. Parameters are made contiguous float32.
  //
  //   errors  Unimplemented    an architecture that is not supported
  //           InvalidArgument  shapes that do not fit together, values that are not finite
  static absl::StatusOr<std::shared_ptr<const Sae>> Create(SaeConfig config,
                                                           SaeParameters parameters);

  virtual ~Sae() = default;

  const SaeConfig& config() const { return config_; }
  const SaeParameters& parameters() const { return parameters_; }
  torch::Device device() const { return parameters_.W_dec.device(); }
  uint64_t memory_bytes() const;
  // SHA-256 over architecture and parameters; set by the loader.
  const std::string& hash() const { return hash_; }

  // Feature activations of `x`, in pieces of rows, so that no dense [n, d_sae] above 32 MB exists.
  //   x  float32 [n, d_in] (any shape [n, ...] with d_in values per row)
  //
  //   errors  InvalidArgument  another width
  absl::StatusOr<EncodedRows> Encode(const torch::Tensor& x) const;

  // The activations of some features only, float32 [n, features].
  //   errors  InvalidArgument  another width, or a feature out of range
  absl::StatusOr<torch::Tensor> EncodeFeatures(const torch::Tensor& x,
                                               absl::Span<const uint32_t> features) const;

  // x_hat, float32 [n, d_in] (also where the input came as [n, head, d_head]).
  //   REQUIRES: acts.n_cols == d_sae.
  torch::Tensor Decode(const EncodedRows& encoded) const;
  torch::Tensor Decode(const SparseRows& acts) const { return Decode(EncodedRows{acts, {}}); }

  // The vector that one unit of a feature's activation adds to x_hat, float32 [d_in], before the
  // normalisation is undone.   REQUIRES: feature < d_sae.
  torch::Tensor FeatureDirection(uint32_t feature) const;

 protected:
  Sae(SaeConfig config, SaeParameters parameters)
      : config_(std::move(config)), parameters_(std::move(parameters)) {}

  // Feature activations of one piece's normalised rows.
  //
  //   hidden_pre  float32 [n, d_sae], (x - b_dec) W_enc still without b_enc, which a selection adds
  //               as it reads; may be written to
  virtual SparseRows Activate(torch::Tensor& hidden_pre) const = 0;
  // As EncodeFeatures, for normalised rows less b_dec, x [n, d_in], and features [n_features]
  // int64. The default activates everything and picks; where features do not compete it can be
  // less.
  virtual torch::Tensor ActivateFeatures(const torch::Tensor& x,
                                         const torch::Tensor& features) const;
  // What the decoder multiplies with W_dec; the activations unless the architecture rescales them.
  virtual SparseRows DecoderInput(const SparseRows& acts) const { return acts; }
  // Activations of normalised rows less b_dec, x [n, d_in], piece by piece.
  SparseRows ActivateInPieces(const torch::Tensor& x) const;

  SaeConfig config_;
  SaeParameters parameters_;

  // Rows less b_dec, normalised, and what was taken off.
  torch::Tensor Normalize(const torch::Tensor& x, RowNormalization* normalization) const;
  absl::StatusOr<torch::Tensor> AsRows(const torch::Tensor& x) const;

 private:
  friend absl::StatusOr<std::shared_ptr<const Sae>> LoadSae(absl::string_view, torch::Device);
  std::string hash_;
};

}  // namespace featurescope
