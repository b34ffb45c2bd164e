// The few settings of a serialised SentencePiece model that decide whether it keeps every text.
//
// Reads the Protobuf wire format directly: the library does not expose these settings.
// Source: google/sentencepiece, src/sentencepiece_model.proto.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

struct SentencePieceModel {
  // Whether texts get a space in front.
  bool add_dummy_prefix = true;
  // The same model with add_dummy_prefix and remove_extra_whitespaces switched off: the caller adds
  // the space where it belongs, and no space of a text is dropped (as in llama2.c).
  std::string keeping_spaces;
};

// Unimplemented: a normalizer or whitespace setting that changes texts. InvalidArgument: no
// well-formed model. `path` is for messages.
absl::StatusOr<SentencePieceModel> ReadSentencePieceModel(absl::string_view content,
                                                          const std::string& path);

}  // namespace featurescope
