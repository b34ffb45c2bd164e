// Documents of token ids, kept aside in a file without a name and read back once, in their order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/formats/file.h"

namespace featurescope {

// Not thread-safe.
class TokenSpool {
 public:
  // The file lies in `dir` and vanishes with this object, or with the process.
  static absl::StatusOr<std::unique_ptr<TokenSpool>> Create(const std::string& dir);

  // ResourceExhausted: the disk is full.
  absl::Status Append(absl::Span<const uint32_t> ids);
  // Calls `visit` with each document, until one returns an error. REQUIRES: last.
  absl::Status ForEach(const std::function<absl::Status(absl::Span<const uint32_t>)>& visit);

  uint64_t n_documents() const { return n_documents_; }
  uint64_t n_tokens() const { return n_tokens_; }

 private:
  TokenSpool(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  absl::Status Flush();

  UniqueFd fd_;
  const std::string path_;  // for messages
  std::string buffer_;
  uint64_t n_documents_ = 0;
  uint64_t n_tokens_ = 0;
};

}  // namespace featurescope
