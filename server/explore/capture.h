// Raw activations at hook points, in pieces.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/base/cancel.h"
#include "server/engine/device_worker.h"
#include "server/explore/text_input.h"

namespace featurescope {

struct CaptureRequest {
  ModelRef model;
  std::vector<TextInput> inputs;
  std::vector<std::string> hook_names;
  bool logits = false;  // also the logits, under the name "logits"
  // Only these positions (rows) of each text; empty: all. Not for attention scores and patterns.
  std::vector<uint32_t> positions;
  CancelToken cancel;
};

// A piece of one tensor of one text. For "input_ids", which holds all of the text's ids and comes
// before the text's other tensors, `ids` is set, else `values`.
struct CapturePiece {
  uint32_t input = 0;           // which of the inputs
  std::string name;             // the hook's name, "logits" or "input_ids"
  std::vector<uint64_t> shape;  // the whole tensor's, e.g. [pos, d_model]
  uint64_t offset = 0;          // of this piece in the flattened tensor, in elements
  absl::Span<const float> values;
  absl::Span<const uint32_t> ids;
};

constexpr size_t kMaxPieceElements = 256 * 1024;          // of 4 bytes: 1 MiB
constexpr uint64_t kMaxCaptureBytesPerText = 1ull << 30;  // of all tensors of one text

// Runs the texts through the model and calls `on_piece`, on the calling thread, with what the hooks
// saw: input by input, each input's tensors one after another, each tensor's pieces in order. The
// spans live until it returns; when it returns false the call ends with Cancelled.
//
//   errors  InvalidArgument    no inputs, nothing to capture; an input that TokenIdsOf refuses; a
//                              hook that the model does not have; a position out of range; more
//                              than kMaxCaptureBytesPerText
//           ResourceExhausted  the device's queue is full
//           Cancelled, DeadlineExceeded
absl::Status CaptureActivations(const CaptureRequest& request, DeviceWorker& worker,
                                const std::function<bool(const CapturePiece&)>& on_piece);

}  // namespace featurescope
