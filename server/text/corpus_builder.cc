#include "server/text/corpus_builder.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/formats/token_file.h"
#include "server/formats/utf8.h"
#include "server/text/text_lines.h"

namespace featurescope {
namespace {

constexpr uint64_t kMaxLineBytes = 64u << 20;
constexpr uint64_t kProgressBytes = 256u << 10;
constexpr int kMaxLineDepth = 32;

enum class Format { kText, kJsonLines };

absl::StatusOr<Format> FormatOf(const std::string& path) {
  const std::string name = absl::AsciiStrToLower(BaseName(path));
  if (absl::EndsWith(name, ".txt")) return Format::kText;
  if (absl::EndsWith(name, ".jsonl")) return Format::kJsonLines;
  return InvalidArgument(path,
                         ": must be .txt (one document a file) or .jsonl (one object a line)");
}

// What a file that is no text looks like; empty for text.
std::string NotText(absl::string_view begin) {
  if (absl::StartsWith(begin, "\x1f\x8b")) return "a gzip archive; unpack it first";
  if (absl::StartsWith(begin, "\x28\xb5\x2f\xfd")) return "a zstd archive; unpack it first";
  if (absl::StartsWith(begin, "PK\x03\x04")) return "a zip archive; unpack it first";
  if (absl::StartsWith(begin, "PAR1")) return "a Parquet file; export it as .jsonl";
  if (absl::StartsWith(begin, "\xff\xfe") || absl::StartsWith(begin, "\xfe\xff")) {
    return "UTF-16 text; convert it to UTF-8";
  }
  const size_t nul = begin.find('\0');
  if (nul != absl::string_view::npos) {
    return absl::StrCat("a binary file (a NUL byte at offset ", nul, ")");
  }
  return "";
}

absl::Status CheckIsText(absl::string_view begin, const std::string& path) {
  const std::string what = NotText(begin);
  if (what.empty()) return absl::OkStatus();
  return InvalidArgument(path, ": is ", what);
}

class CorpusBuild {
 public:
  CorpusBuild(const CorpusSpec& spec, const Tokenizer& tokenizer, TokenFileWriter writer,
              const CorpusProgress& progress, const CancelToken& cancel)
      : spec_(spec),
        tokenizer_(tokenizer),
        writer_(std::move(writer)),
        progress_(progress),
        cancel_(cancel) {}

  absl::StatusOr<CorpusSummary> Run() {
    for (const std::string& path : spec_.paths) {
      uint64_t size = 0;
      ASSIGN_OR_RETURN(const UniqueFd fd, OpenForReading(path, &size));
      RETURN_IF_ERROR(FormatOf(path).status());
      bytes_total_ += size;
    }
    for (const std::string& path : spec_.paths) {
      ASSIGN_OR_RETURN(const Format format, FormatOf(path));
      RETURN_IF_ERROR(format == Format::kText ? AddText(path) : AddJsonLines(path));
    }
    if (writer_.n_documents() == 0) {
      return InvalidArgument("the corpus is empty: ", spec_.paths.size(), " file(s), ",
                             n_empty_documents_, " empty document(s), no text");
    }
    RETURN_IF_ERROR(writer_.Finish());
    Report();
    CorpusSummary summary;
    summary.n_tokens = writer_.n_tokens();
    summary.n_documents = writer_.n_documents();
    summary.n_contexts = (summary.n_tokens + spec_.context_size - 1) / spec_.context_size;
    summary.n_empty_documents = n_empty_documents_;
    summary.hash = writer_.hash();
    return summary;
  }

 private:
  absl::Status AddText(const std::string& path) {
    ASSIGN_OR_RETURN(const std::string content, ReadFile(path, kMaxTextBytes));
    RETURN_IF_ERROR(CheckIsText(content, path));
    return AddDocument(absl::StripPrefix(content, kByteOrderMark), content.size(), path);
  }

  absl::Status AddJsonLines(const std::string& path) {
    ASSIGN_OR_RETURN(TextLines lines, TextLines::Open(path, kMaxLineBytes));
    std::string line;
    while (true) {
      ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
      if (!more) return absl::OkStatus();
      const std::string where = absl::StrCat(path, ":", lines.line_number());
      RETURN_IF_ERROR(CheckIsText(line, where));
      absl::string_view json = absl::StripAsciiWhitespace(line);
      if (lines.line_number() == 1) json = absl::StripPrefix(json, kByteOrderMark);
      if (json.empty()) {
        bytes_read_ += lines.line_bytes();
        continue;
      }
      if (json[0] == '[') {
        return InvalidArgument(where,
                               ": begins with '[': a JSON array; .jsonl has one object "
                               "{\"",
                               spec_.text_field, "\": \"...\"} a line");
      }
      ASSIGN_OR_RETURN(const nlohmann::json object, ParseJson(json, where, kMaxLineDepth));
      ASSIGN_OR_RETURN(const std::string text, JsonString(object, spec_.text_field, where));
      RETURN_IF_ERROR(AddDocument(text, lines.line_bytes(), where));
    }
  }

  absl::Status AddDocument(absl::string_view text, uint64_t file_bytes, const std::string& where) {
    RETURN_IF_ERROR(cancel_.Check());
    absl::StatusOr<std::vector<uint32_t>> ids = tokenizer_.Encode(text);
    if (!ids.ok()) return Annotate(ids.status(), where);
    for (uint32_t id : *ids) {
      if (id >= vocab_size()) {
        return FailedPrecondition(where, ": the tokenizer gives token ", id,
                                  ", the model has tokens [0, ", vocab_size(), ")");
      }
    }
    if (ids->empty()) ++n_empty_documents_;
    RETURN_IF_ERROR(writer_.AppendDocument(*ids));
    bytes_read_ += file_bytes;
    if (bytes_read_ - reported_bytes_ >= kProgressBytes) Report();
    return absl::OkStatus();
  }

  void Report() {
    reported_bytes_ = bytes_read_;
    if (progress_) progress_(bytes_read_, bytes_total_, writer_.n_tokens());
  }

  uint32_t vocab_size() const {
    return spec_.vocab_size == 0 ? tokenizer_.vocab_size() : spec_.vocab_size;
  }

  const CorpusSpec& spec_;
  const Tokenizer& tokenizer_;
  TokenFileWriter writer_;
  const CorpusProgress& progress_;
  const CancelToken& cancel_;
  uint64_t bytes_total_ = 0;
  uint64_t bytes_read_ = 0;
  uint64_t reported_bytes_ = 0;
  uint64_t n_empty_documents_ = 0;
};

}  // namespace

absl::StatusOr<CorpusSummary> BuildCorpus(const CorpusSpec& spec, const Tokenizer& tokenizer,
                                          const std::string& out_dir,
                                          const CorpusProgress& progress,
                                          const CancelToken& cancel) {
  if (spec.paths.empty()) return InvalidArgument("no files to make a corpus of");
  if (spec.prepend_bos && !tokenizer.bos_id()) {
    return FailedPrecondition("the tokenizer has no BOS token; leave prepend_bos off");
  }
  TokenFileSpec file;
  file.vocab_size = spec.vocab_size == 0 ? tokenizer.vocab_size() : spec.vocab_size;
  file.context_size = spec.context_size;
  file.prepend_bos = spec.prepend_bos;
  file.bos_id = spec.prepend_bos ? *tokenizer.bos_id() : 0;
  file.tokenizer_hash = tokenizer.hash();
  file.model_id = spec.model_id;
  ASSIGN_OR_RETURN(TokenFileWriter writer, TokenFileWriter::Create(out_dir, file));
  CorpusBuild build(spec, tokenizer, std::move(writer), progress, cancel);
  return build.Run();
}

}  // namespace featurescope
