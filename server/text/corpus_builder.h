// Text files to a tokenised corpus on disk (server/formats/token_file.h).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/cancel.h"
#include "server/formats/token_file.h"
#include "server/text/document_source.h"
#include "server/text/tokenizer.h"

namespace featurescope {

struct CorpusSpec {
  // Files and directories (searched to the bottom), see FindCorpusFiles; each plain, gzip or zstd.
  std::vector<std::string> paths;
  // What all that is read must lie in, links followed; nullopt: anywhere, links inside a directory
  // not out of it.
  std::optional<std::vector<std::string>> allowed_roots;
  DocumentFormat format = DocumentFormat::kByName;  // of all files
  std::string text_field = "text";  // the field of a JSON line ("a.b": nested), a CSV's column
  std::string text_separator;       // cuts text files into documents; empty: one document a file
  bool csv_quotes = true;           // false: a quote in a CSV or TSV is a character like any other

  uint32_t context_size = 128;  // tokens, BOS included
  ContextLayout layout = ContextLayout::kPacked;
  bool prepend_bos = true;   // to every context; needs tokenizer.bos_id()
  bool document_bos = true;  // with prepend_bos and kPacked: to every document, too
  bool append_eos = false;   // to every document; needs tokenizer.eos_id()
  // The fraction of documents to hold out, in [0, 1). A document's text alone decides, so equal
  // documents are on one side, and adding others changes nothing for it.
  double holdout = 0;

  uint32_t vocab_size = 0;  // the model's d_vocab; 0: the tokenizer's
  std::string model_id;     // noted in the corpus
  int n_threads = 0;        // that tokenise; 0: one for each core. The result is the same
};

struct CorpusSummary {
  uint64_t n_tokens = 0;
  uint64_t n_documents = 0;
  uint64_t n_contexts = 0;
  uint64_t n_heldout_tokens = 0;     // of these
  uint64_t n_heldout_documents = 0;  // of these
  uint64_t n_heldout_contexts = 0;   // of these, the last ones
  uint64_t n_empty_documents = 0;    // left out
  uint64_t n_dropped_tokens = 0;     // by ContextLayout::kTruncated
  uint64_t n_files = 0;
  uint64_t file_bytes = 0;                 // as they lie on disk
  uint64_t text_bytes = 0;                 // of the documents
  std::vector<std::string> formats;        // what the files were, e.g. "jsonl", "csv.gz"; sorted
  uint64_t n_skipped_files = 0;            // in directories; see CorpusFiles
  std::vector<std::string> skipped_files;  // names of the first of them
  double seconds = 0;
  std::string hash;
};

struct CorpusBuildProgress {
  uint64_t file_bytes_read = 0;   // of the files as they are, compressed or not
  uint64_t file_bytes_total = 0;  // of all files
  uint64_t text_bytes = 0;        // of the documents so far
  uint64_t n_documents = 0;
  uint64_t n_tokens = 0;
  double seconds = 0;  // since the begin

  double tokens_per_second() const {
    return seconds > 0 ? static_cast<double>(n_tokens) / seconds : 0;
  }
};

// Called from the calling thread every few hundred kilobytes of files, and once at the end.
using CorpusObserver = std::function<void(const CorpusBuildProgress&)>;

// Tokenises the files in the order given and writes the corpus into `out_dir`. The same input
// gives the same bytes and hash, however many threads there are. On an error nothing is left in
// `out_dir`. Memory: some megabytes for each thread, or some times the largest document.
//
//   InvalidArgument     no known format (naming the file and what it looks like), a bad line
//                       (file:line: what), nothing but empty documents, context_size or holdout
//                       out of range, a holdout that takes no document or all of them
//   DataLoss            a damaged or truncated compressed file
//   PermissionDenied    a path or link leads out of allowed_roots
//   FailedPrecondition  prepend_bos (append_eos), but the tokenizer has no BOS (EOS); ids beyond
//                       vocab_size
//   Cancelled           `cancel` was set; polled between documents
absl::StatusOr<CorpusSummary> BuildCorpus(const CorpusSpec& spec, const Tokenizer& tokenizer,
                                          const std::string& out_dir,
                                          const CorpusObserver& observer,
                                          const CancelToken& cancel);

// The same with the three numbers that matter most.
using CorpusProgress =
    std::function<void(uint64_t bytes_read, uint64_t bytes_total, uint64_t n_tokens)>;
absl::StatusOr<CorpusSummary> BuildCorpus(const CorpusSpec& spec, const Tokenizer& tokenizer,
                                          const std::string& out_dir,
                                          const CorpusProgress& progress,
                                          const CancelToken& cancel);

}  // namespace featurescope
