#include "server/index/checkpoint_bytes.h"

#include <utility>

namespace featurescope {

void WordChecksum::Update(absl::string_view bytes) {
  size_t i = 0;
  uint64_t word = 0;
  for (; i + sizeof(word) <= bytes.size(); i += sizeof(word)) {
    std::memcpy(&word, bytes.data() + i, sizeof(word));
    state_ = Mix64(state_ ^ word);
  }
  if (i < bytes.size()) {
    word = bytes.size() - i;
    state_ = Mix64(state_ ^ word);
    word = 0;
    std::memcpy(&word, bytes.data() + i, bytes.size() - i);
    state_ = Mix64(state_ ^ word);
  }
}

void CheckpointWriter::Flush() {
  // Whole words only, so that the checksum does not depend on where the buffer was cut.
  const size_t n = buffer_.size() / sizeof(uint64_t) * sizeof(uint64_t);
  const absl::string_view whole(buffer_.data(), n);
  checksum_.Update(whole);
  if (status_.ok()) status_ = file_.Append(whole);
  buffer_.erase(0, n);
}

absl::Status CheckpointWriter::Finish() {
  Flush();
  checksum_.Update(buffer_);
  const uint64_t checksum = checksum_.value();
  buffer_.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  RETURN_IF_ERROR(status_);
  RETURN_IF_ERROR(file_.Append(buffer_));
  return file_.Commit();
}

absl::StatusOr<CheckpointReader> CheckpointReader::Create(absl::string_view bytes) {
  uint64_t expected = 0;
  if (bytes.size() < sizeof(expected)) {
    return absl::DataLossError(absl::StrCat("it holds ", bytes.size(), " bytes only"));
  }
  const absl::string_view body = bytes.substr(0, bytes.size() - sizeof(expected));
  std::memcpy(&expected, body.data() + body.size(), sizeof(expected));
  WordChecksum checksum;
  checksum.Update(body);
  if (checksum.value() != expected) return absl::DataLossError("its checksum is wrong");
  return CheckpointReader(body);
}

}  // namespace featurescope
