// A sparse autoencoder: x -> feature_acts -> x_hat. Immutable after construction; const is
// thread-safe. One architecture is one small file behind this interface.
//
//   hidden_pre   = (x - b_dec) W_enc + b_enc     [n, d_sae]   b_dec: if apply_b_dec_to_input
//   feature_acts = activation(hidden_pre)        [n, d_sae]
//   x_hat        = feature_acts W_dec + b_dec    [n, d_out]   transcoders with skip: + x W_skip^T
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/sae/config.h"
#include "server/tensor/sparse_rows.h"
#include "server/tensor/torch.h"

namespace featurescope {

// Which of them an architecture has is in architectures.h; the others stay undefined.
struct SaeParameters {
  torch::Tensor W_enc;       // [d_in, d_sae]
  torch::Tensor b_enc = {};  // [d_sae]; not gated
  torch::Tensor W_dec = {};  // [d_sae, d_out]
  torch::Tensor b_dec = {};  // [d_out]
  torch::Tensor threshold =
      {};                     // jumprelu: [d_sae]; batchtopk: [], undefined with whole_batch only
  torch::Tensor r_mag = {};   // gated: [d_sae], a logarithm
  torch::Tensor b_gate = {};  // gated: [d_sae]
  torch::Tensor b_mag = {};   // gated: [d_sae]
  torch::Tensor W_skip = {};  // transcoders with skip: [d_out, d_in]
};

// What the normalisation took off each row, to be put back by Decode. Undefined tensors: nothing.
struct RowNormalization {
  torch::Tensor scale;  // [n, 1]
  torch::Tensor shift;  // [n, 1]
};

struct EncodedRows {
  SparseRows acts;  // [n, d_sae], in the SAE's own units
  RowNormalization normalization;
  // Transcoders with skip: the rows as they came, [n, d_in]. Undefined: Decode adds no skip.
  torch::Tensor skip_input = {};
};

class Sae {
 public:
  // Makes an SAE of the architecture that `config` names. Parameters are made contiguous float32.
  //
  //   errors  Unimplemented    an architecture that is not supported
  //           InvalidArgument  shapes that do not fit together, values that are not finite, a
  //                            parameter that the architecture does not have, settings that
  //                            contradict each other
  static absl::StatusOr<std::shared_ptr<const Sae>> Create(SaeConfig config,
                                                           SaeParameters parameters);

  virtual ~Sae() = default;

  const SaeConfig& config() const { return config_; }
  const SaeParameters& parameters() const { return parameters_; }
  torch::Device device() const { return parameters_.W_dec.device(); }
  uint64_t memory_bytes() const;
  // Whether it reads one hook point and writes another: x_hat is no reconstruction of x.
  bool is_transcoder() const { return IsTranscoder(config_.architecture); }
  // SHA-256 over architecture and parameters; set by the loader.
  const std::string& hash() const { return hash_; }
  // What its files were recognised as; set by the loader.
  const SaeRecognition& recognition() const { return recognition_; }

  // Feature activations of `x`, in pieces of rows, so that no dense [n, d_sae] above 32 MB exists.
  //   x  float32 [n, d_in] (any shape [n, ...] with d_in values per row)
  //
  //   errors  InvalidArgument  another width
  absl::StatusOr<EncodedRows> Encode(const torch::Tensor& x) const;

  // The activations of some features only, float32 [n, features].
  //   errors  InvalidArgument  another width, or a feature out of range
  absl::StatusOr<torch::Tensor> EncodeFeatures(const torch::Tensor& x,
                                               absl::Span<const uint32_t> features) const;

  // x_hat, float32 [n, d_out] (also where the input came as [n, head, d_head]).
  //   REQUIRES: acts.n_cols == d_sae.
  torch::Tensor Decode(const EncodedRows& encoded) const;
  // The decoder alone: nothing is put back, nothing skips.
  torch::Tensor Decode(const SparseRows& acts) const { return Decode(EncodedRows{acts, {}, {}}); }

  // The vector that one unit of a feature's activation adds to x_hat, float32 [d_out], before the
  // normalisation is undone.   REQUIRES: feature < d_sae.
  torch::Tensor FeatureDirection(uint32_t feature) const;

 protected:
  Sae(SaeConfig config, SaeParameters parameters);

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
  // Activations of normalised rows less b_dec, x [n, d_in]. The default activates piece by piece;
  // an architecture whose rows compete has its own.
  virtual SparseRows ActivateRows(const torch::Tensor& x) const;

  // Calls `activate` with the hidden_pre (see Activate) of piece after piece, in order.
  void ForEachPiece(const torch::Tensor& x,
                    absl::FunctionRef<void(torch::Tensor& hidden_pre)> activate) const;
  // hidden_pre of some features without bias, x W_enc[:, features], [n, features].
  torch::Tensor Project(const torch::Tensor& x, const torch::Tensor& features) const;
  // Multiplies activations that were selected without them by the decoder's norms, if there are
  // any: by entries, or by columns `features`.
  SparseRows TimesDecoderNorms(SparseRows acts) const;
  torch::Tensor TimesDecoderNorms(const torch::Tensor& acts, const torch::Tensor& features) const;

  SaeConfig config_;
  SaeParameters parameters_;
  torch::Tensor decoder_norms_;  // [d_sae]; undefined without rescale_acts_by_decoder_norm

 private:
  friend class SaeLoader;

  absl::StatusOr<torch::Tensor> AsRows(const torch::Tensor& x) const;
  // Rows less b_dec, normalised, and what was taken off.
  torch::Tensor Normalize(const torch::Tensor& x, RowNormalization* normalization) const;
  // What the decoder multiplies with W_dec.
  SparseRows DecoderInput(const SparseRows& acts) const;

  bool has_zero_norm_ = false;  // among decoder_norms_
  std::string hash_;
  SaeRecognition recognition_;
};

}  // namespace featurescope
