// A tokenised corpus on disk: tokens packed into contexts, written once, then mapped read-only.
//
//   tokens.bin     the token ids, uint16 LE when vocab_size <= 65536, else uint32 LE
//   documents.bin  uint64 LE: for each document the index in tokens.bin of its first token
//   corpus.json    format version, sizes, parameters and hash; written last, so a directory
//                  that has it is complete
//
// Context i is tokens [i * context_size, (i + 1) * context_size); only the last may be shorter.
// With prepend_bos every context and every document begins with BOS (one BOS where both begin).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/base/hash.h"
#include "server/formats/file.h"

namespace featurescope {

constexpr uint32_t kMaxContextSize = 1u << 20;

struct TokenFileSpec {
  uint32_t vocab_size = 0;    // ids lie in [0, vocab_size)
  uint32_t context_size = 0;  // tokens, BOS included; at least 2 with prepend_bos
  bool prepend_bos = false;
  uint32_t bos_id = 0;         // used only with prepend_bos
  std::string tokenizer_hash;  // Tokenizer::hash() of the tokenizer that made the ids
  std::string model_id;        // for people; no part of the hash
};

// Streams documents to disk. The three files appear when Finish() succeeds. Not thread-safe.
class TokenFileWriter {
 public:
  // Creates `dir` where it is missing. AlreadyExists when it holds a corpus.
  static absl::StatusOr<TokenFileWriter> Create(const std::string& dir, TokenFileSpec spec);

  // Appends one document, packed right behind the one before. A document of no ids is skipped.
  // InvalidArgument: an id >= vocab_size. ResourceExhausted: the disk is full.
  absl::Status AppendDocument(absl::Span<const uint32_t> ids);

  // InvalidArgument when there is no token at all. REQUIRES: called at most once, last.
  absl::Status Finish();

  uint64_t n_tokens() const { return n_tokens_; }
  uint64_t n_documents() const { return n_documents_; }
  // SHA-256 over parameters, tokens and document offsets; set by Finish().
  const std::string& hash() const { return hash_; }

 private:
  TokenFileWriter(std::string dir, TokenFileSpec spec, AtomicFile tokens, AtomicFile documents);
  void Push(uint32_t id);

  std::string dir_;
  TokenFileSpec spec_;
  AtomicFile tokens_;
  AtomicFile documents_;
  Sha256 sha_;
  Sha256 document_sha_;
  std::string pending_;  // encoded tokens of the current document
  uint64_t n_tokens_ = 0;
  uint64_t n_documents_ = 0;
  std::string hash_;
};

// A corpus, mapped read-only. Const and thread-safe. Do not shorten the files of an open corpus.
class TokenFile {
 public:
  // Checks the sidecar and every size against the files. NotFound: no corpus there.
  // InvalidArgument / DataLoss: a bad sidecar, or files of another size than it says.
  static absl::StatusOr<std::shared_ptr<const TokenFile>> Open(const std::string& dir);
  ~TokenFile();
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  uint64_t n_tokens() const { return n_tokens_; }
  uint64_t n_documents() const { return n_documents_; }
  uint64_t n_contexts() const;
  uint32_t context_size() const { return spec_.context_size; }
  uint32_t vocab_size() const { return spec_.vocab_size; }
  bool prepend_bos() const { return spec_.prepend_bos; }
  uint32_t bos_id() const { return spec_.bos_id; }
  const TokenFileSpec& spec() const { return spec_; }
  const std::string& hash() const { return hash_; }
  const std::string& dir() const { return dir_; }

  // Replaces *out by context `i`: context_size ids, fewer only in the last context. OutOfRange:
  // i >= n_contexts(). DataLoss naming file and position: an id >= vocab_size.
  absl::Status Context(uint64_t i, std::vector<uint32_t>* out) const;

  // Replaces *out by tokens [begin, begin + count). The same errors.
  absl::Status Tokens(uint64_t begin, uint64_t count, std::vector<uint32_t>* out) const;

  // The index of the document that token `token_index` belongs to. REQUIRES: < n_tokens().
  uint64_t DocumentOf(uint64_t token_index) const;
  // The index of the document's first token. REQUIRES: document < n_documents().
  uint64_t DocumentBegin(uint64_t document) const;

  // Reads everything and compares it with hash(). DataLoss when they differ.
  absl::Status Verify() const;

 private:
  struct Mapping {
    const unsigned char* data = nullptr;
    uint64_t size = 0;
  };
  TokenFile() = default;
  // Documents must begin at 0 and in rising order.
  absl::Status CheckDocuments() const;
  static absl::StatusOr<Mapping> Map(const std::string& path, uint64_t expected_bytes);

  std::string dir_;
  TokenFileSpec spec_;
  uint64_t n_tokens_ = 0;
  uint64_t n_documents_ = 0;
  std::string hash_;
  int bytes_per_token_ = 2;
  Mapping tokens_;
  Mapping documents_;
};

}  // namespace featurescope
