#include "server/text/corpus_builder.h"

#include <algorithm>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/status.h"
#include "server/text/corpus_files.h"
#include "server/text/document_encoder.h"
#include "server/text/ordered_pool.h"

namespace featurescope {
namespace {

constexpr uint64_t kProgressBytes = 256u << 10;
constexpr uint64_t kBatchBytes = 128u << 10;
constexpr size_t kBatchRecords = 1024;
// Read and not yet written. A batch of one record may have more.
constexpr uint64_t kBytesPerThread = 4 * kBatchBytes;
constexpr int kMaxThreads = 256;

int ThreadsFor(int n_threads) {
  if (n_threads <= 0) n_threads = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(n_threads, 1, kMaxThreads);
}

DocumentOptions OptionsOf(const CorpusSpec& spec) {
  DocumentOptions options;
  options.text_field = spec.text_field;
  options.text_separator = spec.text_separator;
  options.csv_quotes = spec.csv_quotes;
  return options;
}

// "csv.gz" for a CSV that is a gzip file.
std::string FormatOf(const CorpusFile& file, Compression compression) {
  const absl::string_view ending = compression == Compression::kGzip   ? ".gz"
                                   : compression == Compression::kZstd ? ".zst"
                                                                       : "";
  return absl::StrCat(DocumentFormatName(file.format), ending);
}

// This thread reads and writes; the pool's threads tokenise what lies between.
class CorpusBuild {
 public:
  CorpusBuild(const CorpusSpec& spec, CorpusFiles files, const DocumentEncoder& encoder,
              TokenFileWriter writer, const CorpusObserver& observer, const CancelToken& cancel)
      : spec_(spec),
        options_(OptionsOf(spec)),
        files_(std::move(files)),
        writer_(std::move(writer)),
        observer_(observer),
        cancel_(cancel),
        n_threads_(ThreadsFor(spec.n_threads)),
        pool_(n_threads_,
              [&encoder](RecordBatch batch) { return encoder.Encode(std::move(batch)); }) {
    for (const CorpusFile& file : files_.files) progress_.file_bytes_total += file.bytes;
  }

  absl::StatusOr<CorpusSummary> Run() {
    absl::Status read;
    for (const CorpusFile& file : files_.files) {
      if (read.ok()) read = AddFile(file);
    }
    // What was read before an error may have an earlier one.
    while (write_status_.ok() && pool_.size() > 0) write_status_ = WriteOldest();
    RETURN_IF_ERROR(write_status_);
    RETURN_IF_ERROR(read);
    RETURN_IF_ERROR(CheckDocuments());
    RETURN_IF_ERROR(writer_.Finish());
    progress_.file_bytes_read = bytes_of_files_read_;
    Report();
    return Summary();
  }

 private:
  absl::Status AddFile(const CorpusFile& file) {
    ASSIGN_OR_RETURN(const std::shared_ptr<DocumentSource> source,
                     DocumentSource::Open(file, options_));
    formats_.insert(FormatOf(file, source->file().compression()));
    while (true) {
      RecordBatch batch;
      batch.source = source;
      absl::StatusOr<bool> more = ReadBatch(source.get(), &batch);
      batch.file_bytes_read = bytes_of_files_read_ + source->file().file_bytes_read();
      if (!batch.records.empty()) {
        RETURN_IF_ERROR(Submit(std::move(batch)));
      }
      if (!more.ok()) return more.status();
      if (!*more) break;
    }
    bytes_of_files_read_ += source->file().file_bytes();
    return absl::OkStatus();
  }

  // False when the source has no more.
  static absl::StatusOr<bool> ReadBatch(DocumentSource* source, RecordBatch* batch) {
    while (batch->bytes < kBatchBytes && batch->records.size() < kBatchRecords) {
      Record record;
      ASSIGN_OR_RETURN(const bool more, source->Next(&record));
      if (!more) return false;
      batch->bytes += record.bytes.size();
      batch->records.push_back(std::move(record));
    }
    return true;
  }

  absl::Status Submit(RecordBatch batch) {
    RETURN_IF_ERROR(cancel_.Check());
    const uint64_t most = kBytesPerThread * static_cast<uint64_t>(n_threads_);
    while (pool_.size() > 0 && bytes_in_work_ + batch.bytes > most) {
      write_status_ = WriteOldest();
      RETURN_IF_ERROR(write_status_);
    }
    bytes_in_work_ += batch.bytes;
    pool_.Push(std::move(batch));
    return absl::OkStatus();
  }

  absl::Status WriteOldest() {
    const EncodedBatch batch = pool_.Pop();
    bytes_in_work_ -= batch.bytes;
    for (const EncodedDocument& document : batch.documents) {
      if (document.ids.empty()) ++n_empty_documents_;
      RETURN_IF_ERROR(writer_.AppendDocument(document.ids, document.held_out));
    }
    RETURN_IF_ERROR(batch.status);
    progress_.text_bytes += batch.text_bytes;
    progress_.file_bytes_read = batch.file_bytes_read;
    if (progress_.file_bytes_read - reported_bytes_ >= kProgressBytes) Report();
    return absl::OkStatus();
  }

  absl::Status CheckDocuments() const {
    const uint64_t n = writer_.n_documents();
    const uint64_t n_heldout = writer_.n_heldout_documents();
    if (n == 0) {
      return InvalidArgument("the corpus is empty: ", files_.files.size(), " file(s), ",
                             n_empty_documents_, " empty document(s), no text");
    }
    if (spec_.holdout > 0 && (n_heldout == 0 || n_heldout == n)) {
      return InvalidArgument("holdout ", spec_.holdout, " takes ", n_heldout, " of ", n,
                             " document(s): with so few, choose another fraction, or 0");
    }
    return absl::OkStatus();
  }

  void Report() {
    reported_bytes_ = progress_.file_bytes_read;
    progress_.n_documents = writer_.n_documents();
    progress_.n_tokens = writer_.n_tokens();
    progress_.seconds = absl::ToDoubleSeconds(absl::Now() - begin_);
    if (observer_) observer_(progress_);
  }

  CorpusSummary Summary() const {
    const TokenFileSizes& sizes = writer_.sizes();
    CorpusSummary summary;
    summary.n_tokens = sizes.n_tokens;
    summary.n_documents = sizes.n_documents;
    summary.n_contexts = sizes.n_contexts;
    summary.n_heldout_tokens = sizes.n_tokens - sizes.n_train_tokens;
    summary.n_heldout_documents = sizes.n_documents - sizes.n_train_documents;
    summary.n_heldout_contexts = sizes.n_contexts - sizes.n_train_contexts;
    summary.n_empty_documents = n_empty_documents_;
    summary.n_dropped_tokens = writer_.n_dropped_tokens();
    summary.n_files = files_.files.size();
    summary.file_bytes = progress_.file_bytes_total;
    summary.text_bytes = progress_.text_bytes;
    summary.formats.assign(formats_.begin(), formats_.end());
    summary.n_skipped_files = files_.n_skipped;
    summary.skipped_files = files_.skipped;
    summary.seconds = progress_.seconds;
    summary.hash = writer_.hash();
    return summary;
  }

  const CorpusSpec& spec_;
  const DocumentOptions options_;
  const CorpusFiles files_;
  TokenFileWriter writer_;
  const CorpusObserver& observer_;
  const CancelToken& cancel_;
  const int n_threads_;
  const absl::Time begin_ = absl::Now();
  CorpusBuildProgress progress_;
  uint64_t reported_bytes_ = 0;
  uint64_t bytes_of_files_read_ = 0;  // of the files read to their end
  uint64_t bytes_in_work_ = 0;        // of the batches in pool_
  uint64_t n_empty_documents_ = 0;
  std::set<std::string> formats_;
  absl::Status write_status_;
  OrderedPool<RecordBatch, EncodedBatch> pool_;
};

absl::StatusOr<TokenFileSpec> FileSpecOf(const CorpusSpec& spec, const Tokenizer& tokenizer) {
  if (spec.prepend_bos && !tokenizer.bos_id()) {
    return FailedPrecondition("the tokenizer has no BOS token; leave prepend_bos off");
  }
  if (spec.append_eos && !tokenizer.eos_id()) {
    return FailedPrecondition("the tokenizer has no EOS token; leave append_eos off");
  }
  TokenFileSpec file;
  file.vocab_size = spec.vocab_size == 0 ? tokenizer.vocab_size() : spec.vocab_size;
  file.context_size = spec.context_size;
  file.layout = spec.layout;
  file.prepend_bos = spec.prepend_bos;
  file.bos_id = spec.prepend_bos ? *tokenizer.bos_id() : 0;
  file.document_bos = spec.document_bos;
  if (spec.append_eos) file.eos_id = tokenizer.eos_id();
  file.holdout = spec.holdout;
  file.tokenizer_hash = tokenizer.hash();
  file.model_id = spec.model_id;
  return file;
}

}  // namespace

absl::StatusOr<CorpusSummary> BuildCorpus(const CorpusSpec& spec, const Tokenizer& tokenizer,
                                          const std::string& out_dir,
                                          const CorpusObserver& observer,
                                          const CancelToken& cancel) {
  if (spec.paths.empty()) return InvalidArgument("no files to make a corpus of");
  ASSIGN_OR_RETURN(const TokenFileSpec file_spec, FileSpecOf(spec, tokenizer));
  ASSIGN_OR_RETURN(CorpusFiles files, FindCorpusFiles(spec.paths, spec.allowed_roots, spec.format));
  ASSIGN_OR_RETURN(TokenFileWriter writer, TokenFileWriter::Create(out_dir, file_spec));
  const DocumentEncoder encoder(tokenizer, file_spec.vocab_size, spec.holdout, cancel);
  CorpusBuild build(spec, std::move(files), encoder, std::move(writer), observer, cancel);
  return build.Run();
}

absl::StatusOr<CorpusSummary> BuildCorpus(const CorpusSpec& spec, const Tokenizer& tokenizer,
                                          const std::string& out_dir,
                                          const CorpusProgress& progress,
                                          const CancelToken& cancel) {
  CorpusObserver observer;
  if (progress) {
    observer = [&progress](const CorpusBuildProgress& so_far) {
      progress(so_far.file_bytes_read, so_far.file_bytes_total, so_far.n_tokens);
    };
  }
  return BuildCorpus(spec, tokenizer, out_dir, observer, cancel);
}

}  // namespace featurescope
