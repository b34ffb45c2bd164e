// Records of a source to token ids: the part of building a corpus that runs on many threads.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "server/base/cancel.h"
#include "server/text/document_source.h"
#include "server/text/tokenizer.h"

namespace featurescope {

struct RecordBatch {
  std::shared_ptr<const DocumentSource> source;
  std::vector<Record> records;
  uint64_t bytes = 0;            // of the records
  uint64_t file_bytes_read = 0;  // of all files, when they had been read
};

struct EncodedDocument {
  std::vector<uint32_t> ids;
  bool held_out = false;
};

struct EncodedBatch {
  std::vector<EncodedDocument> documents;  // those in front of the first that failed
  absl::Status status;
  uint64_t text_bytes = 0;
  uint64_t bytes = 0;            // as in the RecordBatch
  uint64_t file_bytes_read = 0;  // as in the RecordBatch
};

// Const and thread-safe.
class DocumentEncoder {
 public:
  // Ids must lie in [0, vocab_size). Of all documents about `holdout` are held out.
  // REQUIRES: the tokenizer outlives this.
  DocumentEncoder(const Tokenizer& tokenizer, uint32_t vocab_size, double holdout,
                  CancelToken cancel);

  EncodedBatch Encode(RecordBatch batch) const;

 private:
  absl::StatusOr<EncodedDocument> EncodeText(absl::string_view text) const;

  const Tokenizer& tokenizer_;
  const uint32_t vocab_size_;
  const double holdout_;
  const CancelToken cancel_;
};

// Whether a document of this text is held out when `holdout` of all are. For every text, there is
// one fraction from which on it is.
bool IsHeldOut(absl::string_view text, double holdout);

}  // namespace featurescope
