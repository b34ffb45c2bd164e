// A tokenised corpus on disk: tokens laid out in contexts, written once, then mapped read-only.
//
//   tokens.bin     the token ids, uint16 LE when vocab_size <= 65536, else uint32 LE
//   documents.bin  uint64 LE: for each document the index in tokens.bin of its first token
//   contexts.bin   uint64 LE: for each context the same; only where contexts do not lie packed
//   corpus.json    format version, sizes, parameters and hash; written last, so a directory
//                  that has it is complete
//
// Contexts follow each other without a gap: first those to train on, behind them those held out.
// No context has tokens of both.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/base/hash.h"
#include "server/formats/file.h"

namespace featurescope {

class TokenSpool;

constexpr uint32_t kMaxContextSize = 1u << 20;

// How documents become contexts.
enum class ContextLayout {
  kPacked,     // one right behind the other; every context is full but the last (of each part)
  kSplit,      // cut into contexts; the last one of each document may be shorter
  kTruncated,  // one context a document; what does not fit is dropped
};
// "packed", "split", "truncated".
absl::string_view ContextLayoutName(ContextLayout layout);
// InvalidArgument: no such name.
absl::StatusOr<ContextLayout> ParseContextLayout(absl::string_view name);

struct TokenFileSpec {
  uint32_t vocab_size = 0;    // ids lie in [0, vocab_size)
  uint32_t context_size = 0;  // tokens at most, BOS included; at least 2 with prepend_bos
  bool prepend_bos = false;   // every context begins with BOS
  uint32_t bos_id = 0;        // used only with prepend_bos
  // With prepend_bos, packed documents begin with BOS, too. There is one BOS where both begin, and
  // where a document's own first id is BOS. (SAELens' concat_and_batch_sequences with BOS as
  // begin_batch_token_id and sequence_separator_token_id.)
  bool document_bos = true;
  std::optional<uint32_t> eos_id;  // ends every document that is there to its end
  ContextLayout layout = ContextLayout::kPacked;
  double holdout = 0;          // the fraction of documents that was to be held out, in [0, 1)
  std::string tokenizer_hash;  // Tokenizer::hash() of the tokenizer that made the ids
  std::string model_id;        // for people; no part of the hash
};

// How much there is, and how much of it to train on: what comes first.
struct TokenFileSizes {
  uint64_t n_tokens = 0;
  uint64_t n_documents = 0;
  uint64_t n_contexts = 0;
  uint64_t n_train_tokens = 0;
  uint64_t n_train_documents = 0;
  uint64_t n_train_contexts = 0;
};

// Contexts [begin, end).
struct ContextRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint64_t size() const { return end - begin; }
};

// Streams documents to disk. The files appear when Finish() succeeds. Not thread-safe.
class TokenFileWriter {
 public:
  // Creates `dir` where it is missing. AlreadyExists when it holds a corpus.
  static absl::StatusOr<TokenFileWriter> Create(const std::string& dir, TokenFileSpec spec);
  TokenFileWriter(TokenFileWriter&&) noexcept;
  TokenFileWriter& operator=(TokenFileWriter&&) noexcept;
  ~TokenFileWriter();

  // Appends one document. Those held out are kept aside and come behind all others. A document of
  // no ids is skipped. InvalidArgument: an id >= vocab_size. ResourceExhausted: the disk is full.
  absl::Status AppendDocument(absl::Span<const uint32_t> ids, bool held_out = false);

  // InvalidArgument when there is nothing to train on. REQUIRES: called at most once, last.
  absl::Status Finish();

  // Of all documents so far, those held out included; exact after Finish().
  uint64_t n_tokens() const;
  uint64_t n_documents() const;
  uint64_t n_heldout_documents() const { return n_heldout_documents_; }
  // REQUIRES: Finish() was called.
  const TokenFileSizes& sizes() const { return sizes_; }
  // Tokens that kTruncated left out.
  uint64_t n_dropped_tokens() const { return n_dropped_tokens_; }
  // SHA-256 over parameters, tokens and offsets; set by Finish().
  const std::string& hash() const { return hash_; }

 private:
  // One of the files, with the hash of what was written to it.
  struct Part {
    AtomicFile file;
    Sha256 sha;
    absl::Status Append(absl::string_view bytes);
  };
  TokenFileWriter(std::string dir, TokenFileSpec spec, Part tokens, Part documents);
  absl::Status LayOut(absl::Span<const uint32_t> ids);
  absl::Status LayOutHeldOut();
  void BeginContext();
  void Push(absl::Span<const uint32_t> ids);
  void PushFilling(absl::Span<const uint32_t> ids);

  std::string dir_;
  TokenFileSpec spec_;
  Part tokens_;
  Part documents_;
  std::optional<Part> contexts_;         // kSplit, kTruncated
  std::unique_ptr<TokenSpool> heldout_;  // made for the first document that is held out
  std::string pending_tokens_;           // encoded, of the current document
  std::string pending_contexts_;
  uint32_t room_ = 0;  // in the current context; 0: the next token begins one
  TokenFileSizes sizes_;
  uint64_t n_heldout_documents_ = 0;
  uint64_t n_dropped_tokens_ = 0;
  std::string hash_;
};

// A corpus, mapped read-only. Const and thread-safe. Do not shorten the files of an open corpus.
class TokenFile {
 public:
  // Checks the sidecar and every size and offset against the files. NotFound: no corpus there.
  // InvalidArgument / DataLoss: a bad sidecar, or files of another size than it says.
  static absl::StatusOr<std::shared_ptr<const TokenFile>> Open(const std::string& dir);
  ~TokenFile();
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  uint64_t n_tokens() const { return sizes_.n_tokens; }
  uint64_t n_documents() const { return sizes_.n_documents; }
  uint64_t n_contexts() const { return sizes_.n_contexts; }
  uint32_t context_size() const { return spec_.context_size; }
  uint32_t vocab_size() const { return spec_.vocab_size; }
  bool prepend_bos() const { return spec_.prepend_bos; }
  uint32_t bos_id() const { return spec_.bos_id; }
  const TokenFileSpec& spec() const { return spec_; }
  const std::string& hash() const { return hash_; }
  const std::string& dir() const { return dir_; }

  // The contexts to train on, and behind them those held out: for evaluation only, maybe none.
  ContextRange train_contexts() const { return {0, sizes_.n_train_contexts}; }
  ContextRange heldout_contexts() const { return {sizes_.n_train_contexts, sizes_.n_contexts}; }
  uint64_t n_train_tokens() const { return sizes_.n_train_tokens; }
  uint64_t n_heldout_tokens() const { return sizes_.n_tokens - sizes_.n_train_tokens; }
  uint64_t n_train_documents() const { return sizes_.n_train_documents; }

  // The index of the first token of context `i`, and the number of its tokens, at most
  // context_size(). REQUIRES: i < n_contexts(); for ContextBegin also n_contexts(), the end.
  uint64_t ContextBegin(uint64_t i) const;
  uint32_t ContextLength(uint64_t i) const;

  // Replaces *out by context `i`. OutOfRange: i >= n_contexts(). DataLoss naming file and position:
  // an id >= vocab_size.
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
  absl::Status MapFiles();
  absl::Status CheckDocuments() const;
  absl::Status CheckContexts() const;
  static absl::StatusOr<Mapping> Map(const std::string& path, uint64_t expected_bytes);

  std::string dir_;
  TokenFileSpec spec_;
  TokenFileSizes sizes_;
  std::string hash_;
  Mapping tokens_;
  Mapping documents_;
  Mapping contexts_;  // kSplit, kTruncated
};

}  // namespace featurescope
