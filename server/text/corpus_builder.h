// Text files to a tokenised corpus on disk (server/formats/token_file.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/cancel.h"
#include "server/text/tokenizer.h"

namespace featurescope {

struct CorpusSpec {
  std::vector<std::string> paths;   // .txt: one document a file; .jsonl: one document a line
  std::string text_field = "text";  // the field of a .jsonl line that holds the text
  uint32_t context_size = 128;      // tokens, BOS included
  bool prepend_bos = true;          // needs tokenizer.bos_id()
  uint32_t vocab_size = 0;          // the model's d_vocab; 0: the tokenizer's
  std::string model_id;             // noted in the corpus
};

struct CorpusSummary {
  uint64_t n_tokens = 0;
  uint64_t n_documents = 0;
  uint64_t n_contexts = 0;
  uint64_t n_empty_documents = 0;  // left out
  std::string hash;
};

// Called every few hundred kilobytes and once at the end.
using CorpusProgress =
    std::function<void(uint64_t bytes_read, uint64_t bytes_total, uint64_t n_tokens)>;

// Tokenises the files in the order given and writes the corpus into `out_dir`. The same input
// gives the same bytes and hash. On an error nothing is left in `out_dir`.
//
//   InvalidArgument     no such format (naming the file and what it looks like), a bad line
//                       (file:line: what), nothing but empty documents, context_size out of range
//   FailedPrecondition  prepend_bos, but the tokenizer has no BOS; ids beyond vocab_size
//   Cancelled           `cancel` was set; polled between documents
absl::StatusOr<CorpusSummary> BuildCorpus(const CorpusSpec& spec, const Tokenizer& tokenizer,
                                          const std::string& out_dir,
                                          const CorpusProgress& progress,
                                          const CancelToken& cancel);

}  // namespace featurescope
