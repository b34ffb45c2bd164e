// Vectors of any origin through an SAE.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/base/cancel.h"
#include "server/engine/device_worker.h"
#include "server/explore/sparse_activations.h"
#include "server/sae/sae.h"

namespace featurescope {

struct EncodedVectors {
  SparseActivations feature_acts;
  std::vector<float> sae_out;  // [n_vectors, d_out] if asked for, row after row
};

// Encodes the rows of `vectors` [n_vectors, d_in] and, with `reconstruct`, decodes them again.
// Blocks. Calls of many threads on one SAE are batched.
//
//   errors  InvalidArgument    vectors is not n_vectors times d_in values; a value is not finite
//           ResourceExhausted  the device's queue is full
//           Cancelled, DeadlineExceeded
absl::StatusOr<EncodedVectors> EncodeVectors(const std::shared_ptr<const Sae>& sae,
                                             absl::Span<const float> vectors, uint64_t n_vectors,
                                             bool reconstruct, const CancelToken& cancel,
                                             DeviceWorker& worker);

// Decodes feature activations to rows of d_out values. Blocks.
//
//   errors  InvalidArgument    offsets, indices or n_cols do not fit the SAE; a value is not finite
//           ResourceExhausted  the device's queue is full
//           Cancelled, DeadlineExceeded
absl::StatusOr<std::vector<float>> DecodeVectors(const std::shared_ptr<const Sae>& sae,
                                                 const SparseActivations& feature_acts,
                                                 const CancelToken& cancel, DeviceWorker& worker);

}  // namespace featurescope
