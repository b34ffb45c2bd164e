#include "server/text/document_encoder.h"

#include <utility>

#include "absl/strings/string_view.h"
#include "server/base/hash.h"
#include "server/base/status.h"

namespace featurescope {

bool IsHeldOut(absl::string_view text, double holdout) {
  if (holdout <= 0) return false;
  uint64_t hash = Mix64(text.size());
  for (size_t at = 0; at < text.size(); at += 8) {
    const absl::string_view bytes = text.substr(at, 8);
    uint64_t word = 0;
    for (size_t i = 0; i < bytes.size(); ++i) {
      word |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
    }
    hash = Mix64(hash ^ word);
  }
  constexpr double kTwoTo53 = 9007199254740992.0;
  return static_cast<double>(hash >> 11) < holdout * kTwoTo53;
}

DocumentEncoder::DocumentEncoder(const Tokenizer& tokenizer, uint32_t vocab_size, double holdout,
                                 CancelToken cancel)
    : tokenizer_(tokenizer),
      vocab_size_(vocab_size),
      holdout_(holdout),
      cancel_(std::move(cancel)) {}

absl::StatusOr<EncodedDocument> DocumentEncoder::EncodeText(absl::string_view text) const {
  EncodedDocument document;
  ASSIGN_OR_RETURN(document.ids, tokenizer_.Encode(text));
  for (const uint32_t id : document.ids) {
    if (id >= vocab_size_) {
      return FailedPrecondition("the tokenizer gives token ", id, ", the model has tokens [0, ",
                                vocab_size_, ")");
    }
  }
  document.held_out = IsHeldOut(text, holdout_);
  return document;
}

EncodedBatch DocumentEncoder::Encode(RecordBatch batch) const {
  EncodedBatch encoded;
  encoded.bytes = batch.bytes;
  encoded.file_bytes_read = batch.file_bytes_read;
  encoded.documents.reserve(batch.records.size());
  for (Record& record : batch.records) {
    encoded.status = cancel_.Check();
    if (!encoded.status.ok()) return encoded;
    Record place;
    place.number = record.number;
    const absl::StatusOr<std::string> text = batch.source->Text(std::move(record));
    if (!text.ok()) {
      encoded.status = text.status();
      return encoded;
    }
    absl::StatusOr<EncodedDocument> document = EncodeText(*text);
    if (!document.ok()) {
      encoded.status = Annotate(document.status(), batch.source->Where(place));
      return encoded;
    }
    encoded.text_bytes += text->size();
    encoded.documents.push_back(*std::move(document));
  }
  return encoded;
}

}  // namespace featurescope
