// The documents of one file: cut apart by one thread, understood by many.
//
// A source only cuts its file into records (lines, mostly), which has to be done in order. What is
// slow, finding the text in a record, is a function of the record alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/text/corpus_files.h"

namespace featurescope {

struct DocumentOptions {
  // The field of a JSON line, or the column of a CSV. "a.b" is field b of the object in field a,
  // unless there is a field of the name "a.b".
  std::string text_field = "text";
  // Cuts a text file into documents, e.g. "<|endoftext|>"; no part of them. Empty: one document.
  std::string text_separator;
  bool csv_quotes = true;  // false: a quote in a CSV or TSV is a character like any other
};

// What stands for one document in a file.
struct Record {
  std::string bytes;
  uint64_t number = 0;  // of its first line, or of the document in a text file; from 1
};

// Text() and Where() may be called from any thread, also beside Next(), which one thread calls.
class DocumentSource {
 public:
  // Opens a file that FindCorpusFiles found, and reads the header where it has one. Besides what
  // OpenCorpusFile says, InvalidArgument: no header, or no such column.
  static absl::StatusOr<std::shared_ptr<DocumentSource>> Open(const CorpusFile& file,
                                                              const DocumentOptions& options);
  virtual ~DocumentSource() = default;

  // Replaces *record by the next one, blank lines left out; false at the end. InvalidArgument or
  // DataLoss naming file and line, or byte of a compressed file.
  virtual absl::StatusOr<bool> Next(Record* record) = 0;

  // The text of a record of this source; may be empty. InvalidArgument naming file, line and
  // field: it is malformed, or no text at all.
  virtual absl::StatusOr<std::string> Text(Record record) const = 0;

  // "file:line", or what comes next to it.
  virtual std::string Where(const Record& record) const = 0;

  // The file as it is opened, e.g. for how much of it was read. Not beside Next().
  virtual const CompressedFile& file() const = 0;
};

// The kinds, behind DocumentSource::Open.
absl::StatusOr<std::shared_ptr<DocumentSource>> OpenTextDocuments(CompressedFile file,
                                                                  const DocumentOptions& options);
absl::StatusOr<std::shared_ptr<DocumentSource>> OpenJsonLines(CompressedFile file,
                                                              const DocumentOptions& options);
absl::StatusOr<std::shared_ptr<DocumentSource>> OpenCsv(CompressedFile file,
                                                        const DocumentOptions& options,
                                                        char delimiter);

// One line, or one record of a CSV, takes at most this much.
constexpr uint64_t kMaxRecordBytes = 64u << 20;

// InvalidArgument saying what `bytes` are instead of text: binary, or if they begin a file, its
// format. `where` begins the message.
absl::Status CheckIsText(absl::string_view bytes, bool begins_file, const std::string& where);

}  // namespace featurescope
