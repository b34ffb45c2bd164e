// The catalog: ids -> models, SAEs, corpora and indexes, checked when they are added, loaded once,
// kept within a byte budget. It owns the data directory.
//
//   <data_dir>/            mode 0700, locked by the open catalog
//     state.db             rows of the catalog, and the job queue
//     models/<id>/         configuration, tokenizer files and weights in HF layout
//     saes/<id>/           an SAE's files as they came; what was trained here in SAELens layout
//     corpora/<id>/        server/formats/token_file.h
//     index/<sae>@<corpus>.db
//     jobs/<id>/           what an unfinished job has written so far
//     checkpoints/<job>/   SAEs of the last and best checkpoints of trainings that have ended
//     activations/<id>/    server/train/activation_files.h
//     tensorboard/         server/jobs/tensorboard_log.h
//
// Adding a model or an SAE brings its files into the data directory: weights are hard-linked where
// both lie on one file system (no second copy on disk), everything else is copied. The original can
// be deleted afterwards; a linked original must not be changed in place.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "server/base/cancel.h"
#include "server/catalog/load_cache.h"
#include "server/formats/file.h"
#include "server/formats/token_file.h"
#include "server/model/transformer.h"
#include "server/sae/sae.h"
#include "server/sae/sae_files.h"
#include "server/store/index_db.h"
#include "server/store/state_db.h"
#include "server/tensor/torch.h"
#include "server/text/corpus_builder.h"
#include "server/text/tokenizer.h"

namespace featurescope {

struct CatalogOptions {
  torch::Device device = torch::kCPU;
  torch::ScalarType dtype = torch::kFloat32;  // of the models' forward pass
  // Where added files may lie, links resolved; at least one. "/" allows everything.
  std::vector<std::string> allowed_roots;
  // Weights in memory at once; what is in use always stays.
  uint64_t memory_budget_bytes = 16ull << 30;
  StateDbOptions state;
};

// Where files come from that are added.
struct AddSource {
  std::string name;                     // for people; empty: the path
  std::vector<std::string> more_roots;  // allowed beside CatalogOptions::allowed_roots
};

// What is known of an SAE beside its files, e.g. from the release it was published in. The files
// win.
struct KnownOfSae {
  std::string model;  // as the hub names it
  std::string hook_name;
  std::string hook_name_out;
  bool center_writing_weights = false;
  std::optional<bool> prepend_bos;
  uint32_t context_size = 0;       // tokens
  double norm_scaling_factor = 0;  // as in LoadSaeOptions; 0: none
  std::string note;                // one sentence
};

struct AddSaeOptions {
  std::string model_id;            // empty: the only model that goes by the name in the files
  std::string hook_name;           // overrides what the files say; empty: the files' own
  bool any_width = false;          // accepts a d_in that is not the hook's width, for vectors only
  std::string hook_name_out = {};  // as hook_name, of what a transcoder writes
  // Unset: what is known of the SAE; else not centred.
  std::optional<bool> center_writing_weights = {};
  LoadSaeOptions load = {};              // settings in place of those in the files
  std::optional<KnownOfSae> known = {};  // unset: what the path tells (see known_sae.h)
  AddSource source = {};
};

struct AddCorpusOptions {
  std::vector<std::string> paths;  // files and directories
  std::string model_id;
  uint32_t context_size = 0;  // tokens; 0: the model's n_ctx, at most 128
  bool no_bos = false;        // leaves out the BOS that the model's tokenizer asks for
  // What of CorpusSpec says how files are read and cut; its other fields are set by the catalog.
  DocumentFormat format = DocumentFormat::kByName;
  std::string text_field = "text";
  std::string text_separator;
  bool csv_quotes = true;
  ContextLayout layout = ContextLayout::kPacked;
  bool append_eos = false;
  double holdout = 0;  // fraction of documents, [0, 0.5]
};

struct CorpusHandle {
  CorpusRow row;
  std::shared_ptr<const TokenFile> tokens;
};

struct ExportedSae {
  std::string directory;           // canonical
  std::vector<std::string> files;  // names in it
  uint64_t bytes = 0;
};

// What ExportSae writes.
constexpr absl::string_view kExportFormats[] = {"saelens", "dictionary_learning"};

struct IndexEntry {
  std::string sae_id;
  std::string corpus_id;
  std::string path;
};

// Thread-safe. Errors that name an unknown id are NotFound and list the ids there are.
class Catalog {
 public:
  // Creates or opens the data directory and takes its lock.
  //   errors  FailedPrecondition  another server has it open; the message names its process
  //           DataLoss            state.db is damaged
  static absl::StatusOr<std::unique_ptr<Catalog>> Open(const std::string& data_dir,
                                                       const CatalogOptions& options);
  ~Catalog();

  // ---- adding. Everything is checked before the entry appears; the files appear at once. The same
  // content under the same id again gives the entry that exists; other content is AlreadyExists.
  // PermissionDenied: a path outside the allowed roots.

  // A directory in HF layout. Its weights are read completely, once, and stay loaded.
  absl::StatusOr<ModelRow> AddModel(absl::string_view id, const std::string& path,
                                    const AddSource& source = {});
  // A directory or a file of any format that LoadSae reads.
  //   errors  NotFound         the model
  //           InvalidArgument  no format fits; no model or hook point is known (the message names
  //                            the option that says it); the model has no such hook; the SAE's
  //                            width is not the hook's (see any_width); centring for a model that
  //                            does not use LayerNorm
  absl::StatusOr<SaeRow> AddSae(absl::string_view id, const std::string& path,
                                const AddSaeOptions& options);
  // Tokenises text files. FailedPrecondition: the model has no tokenizer. Cancelled leaves nothing.
  absl::StatusOr<CorpusRow> AddCorpus(absl::string_view id, const AddCorpusOptions& options,
                                      const CorpusObserver& observer, const CancelToken& cancel,
                                      CorpusSummary* summary = nullptr);
  // Takes over a directory that a training job of this server wrote (it lies in the data directory
  // and is moved). Called again after a crash, it gives the entry of the same job. `hook_name_out`
  // is where a transcoder writes; else empty.
  //   errors  AlreadyExists  the id belongs to another SAE
  absl::StatusOr<SaeRow> AdoptSae(absl::string_view id, const std::string& dir,
                                  absl::string_view model_id, absl::string_view hook_name,
                                  absl::string_view training_job_id,
                                  absl::string_view hook_name_out = "");

  // Writes the SAE's files for another program into `directory`, which is created, or must be
  // empty; it appears complete or not at all.
  //   errors  InvalidArgument   an unknown format, a directory that is not empty or lies in the
  //   data
  //                             directory
  //           PermissionDenied  outside the allowed roots
  //           Unimplemented     the format cannot express this SAE
  absl::StatusOr<ExportedSae> ExportSae(absl::string_view id, absl::string_view format,
                                        const std::string& directory);

  // ---- looking.
  absl::StatusOr<ModelRow> GetModel(absl::string_view id) const;
  absl::StatusOr<SaeRow> GetSae(absl::string_view id) const;
  absl::StatusOr<CorpusRow> GetCorpus(absl::string_view id) const;
  absl::StatusOr<std::vector<ModelRow>> ListModels() const;
  absl::StatusOr<std::vector<SaeRow>> ListSaes() const;
  absl::StatusOr<std::vector<CorpusRow>> ListCorpora() const;
  // What config.json says, without loading weights.
  absl::StatusOr<ModelConfig> Config(absl::string_view model_id) const;

  // ---- removing. FailedPrecondition naming what still needs it. Handles stay valid.
  absl::Status DeleteModel(absl::string_view id);
  // And its indexes, its evaluations and the checkpoints of its training.
  absl::Status DeleteSae(absl::string_view id);
  absl::Status DeleteCorpus(absl::string_view id);  // and the indexes over it

  // ---- using. Loads on first use; a handle keeps its object alive.
  //   errors  ResourceExhausted  no room within the budget
  //           DataLoss           the files are no longer those that were added
  absl::StatusOr<std::shared_ptr<const Transformer>> LoadedModel(absl::string_view id);
  absl::StatusOr<std::shared_ptr<const Sae>> LoadedSae(absl::string_view id);
  absl::StatusOr<CorpusHandle> LoadedCorpus(absl::string_view id);
  // FailedPrecondition: the model has no tokenizer files; only token ids work.
  absl::StatusOr<std::shared_ptr<const Tokenizer>> LoadedTokenizer(absl::string_view model_id);
  bool ModelIsLoaded(absl::string_view id) const;
  // Lets the weights go once nobody uses them.
  absl::Status UnloadModel(absl::string_view id);

  // ---- indexes.
  std::string IndexPath(absl::string_view sae_id, absl::string_view corpus_id) const;
  // An empty corpus id stands for the only one that there is an index over. A replaced file is
  // opened anew.
  //   errors  NotFound            no such SAE; no such index, with the command that makes it
  //           FailedPrecondition  `corpus_id` is empty and there are several
  //           DataLoss            the file is damaged
  absl::StatusOr<std::shared_ptr<const IndexReader>> OpenIndex(absl::string_view sae_id,
                                                               absl::string_view corpus_id);
  // Of one SAE, or of all (empty), sorted.
  absl::StatusOr<std::vector<IndexEntry>> ListIndexes(absl::string_view sae_id) const;

  // ---- files of jobs (job_files.cc).
  // Where a job writes while it is unfinished.
  std::string JobDir(absl::string_view job_id) const;
  // Called when a job has ended: what it has written goes, but for the SAEs of a training's last
  // and best checkpoints, in SAELens format, which move to
  //   checkpoints/<job id>/last, checkpoints/<job id>/best    of a training
  //   checkpoints/<job id>/<SAE id>/last, .../best            of a sweep
  // AddSae accepts these paths. They go with the job's SAE; those of jobs that made none, when
  // kMaxKeptCheckpoints later jobs made none, either. Errors are logged.
  void EndJobFiles(absl::string_view job_id) const;
  static constexpr size_t kMaxKeptCheckpoints = 20;
  // That directory; empty: the job has none.
  std::string KeptCheckpoints(absl::string_view job_id) const;
  // Where the activation cache of that id is, or would be.   errors  InvalidArgument  no id
  absl::StatusOr<std::string> ActivationCacheDir(absl::string_view id) const;

  // The canonical path of a user's file.   errors  NotFound; PermissionDenied  it lies outside the
  // allowed roots
  absl::StatusOr<std::string> ResolveAllowed(const std::string& path) const;

  StateDb& state() { return *db_; }
  const std::string& data_dir() const { return data_dir_; }
  torch::Device device() const { return options_.device; }
  torch::ScalarType dtype() const { return options_.dtype; }
  uint64_t memory_used_bytes() const { return weights_.used_bytes(); }
  uint64_t memory_budget_bytes() const { return weights_.budget_bytes(); }

 private:
  class Reservation;

  Catalog(std::string data_dir, CatalogOptions options, UniqueFd lock);
  absl::Status Prepare();
  // Removes what a killed server left half done.
  void CleanUp() const;

  // A NotFound of `kind` ("model", "SAE", "corpus") as `no model "x"; there are: a, b`; other
  // statuses as they are.
  absl::Status Explain(const absl::Status& status, absl::string_view kind) const;
  // The entry's directory; `folder` is models, saes or corpora.
  std::string EntryDir(absl::string_view folder, absl::string_view id) const;
  std::vector<std::string> RootsFor(const AddSource& source) const;
  // The model that the SAE belongs to, whether `options` or the files say it.
  absl::StatusOr<ModelRow> ModelOf(const Sae& sae, const AddSaeOptions& options) const;
  // Fits the row of an SAE to its model: hook points, widths, centring, BOS.
  absl::Status FitToModel(const Sae& sae, const AddSaeOptions& options, SaeRow* row) const;
  void RemoveIndexes(absl::string_view sae_id, absl::string_view corpus_id) const;
  // Of the job that made the SAE, if one did.
  void RemoveCheckpoints(const SaeRow& sae) const;
  void RemoveOldCheckpoints() const;

  const std::string data_dir_;  // canonical
  const CatalogOptions options_;
  const UniqueFd lock_;
  std::unique_ptr<StateDb> db_;
  LoadCache weights_;  // "model:ID", "sae:ID", in bytes
  LoadCache small_;    // "tokenizer:ID", "corpus:ID", "index:PATH:VERSION", in open files
  mutable absl::Mutex mutex_;
  std::set<std::string> being_added_ ABSL_GUARDED_BY(mutex_);  // "model:ID", ...
};

}  // namespace featurescope
