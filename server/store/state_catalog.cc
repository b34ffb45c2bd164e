// The catalog's rows of state.db.
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "server/base/status.h"
#include "server/store/state_db.h"

namespace featurescope {
namespace {

constexpr char kModelColumns[] =
    "id, path, architecture, n_layers, d_model, n_heads, d_head, d_mlp, d_vocab, n_ctx, "
    "n_parameters, memory_bytes, has_tokenizer, prepend_bos, tokenizer_hash, hash, hook_names, "
    "tokenizer_kind, has_chat_template, source, warnings, created_ms";
constexpr char kSaeColumns[] =
    "id, model_id, path, hook_name, architecture, d_in, d_sae, k, apply_b_dec_to_input, "
    "normalize_activations, format, context_size, prepend_bos, vectors_only, memory_bytes, hash, "
    "training_job_id, d_out, hook_name_out, main_file, overrides, file_dtype, activation, "
    "prepend_bos_known, folds, "
    "notes, warnings, center_writing_weights, trained_on, source, created_ms";
constexpr char kCorpusColumns[] =
    "id, model_id, path, context_size, n_tokens, n_documents, n_contexts, prepend_bos, hash, "
    "tokenizer_hash, n_heldout_contexts, n_heldout_tokens, layout, formats, created_ms";

// Writes values to the parameters, or reads them from the columns, in order.
class Binder {
 public:
  explicit Binder(Statement* statement) : statement_(statement) {}
  Binder& Text(absl::string_view value) {
    statement_->BindText(next_++, value);
    return *this;
  }
  Binder& Lines(const std::vector<std::string>& lines) {
    const auto append = [](std::string* out, const std::string& line) {
      absl::StrAppend(out, absl::StrReplaceAll(line, {{"\n", " "}}));
    };
    return Text(absl::StrJoin(lines, "\n", append));
  }
  template <typename T>
  Binder& Int(T value) {
    statement_->Bind(next_++, static_cast<int64_t>(value));
    return *this;
  }

 private:
  Statement* statement_;
  int next_ = 1;
};

class RowReader {
 public:
  explicit RowReader(const Statement* statement) : statement_(statement) {}
  // The next columns, in order.
  template <typename... Fields>
  void Into(Fields*... fields) {
    (Read(fields), ...);
  }

 private:
  void Read(std::string* value) { *value = statement_->Text(next_++); }
  void Read(std::vector<std::string>* lines) {
    *lines = absl::StrSplit(statement_->Text(next_++), '\n', absl::SkipEmpty());
  }
  void Read(bool* value) { *value = statement_->Int(next_++) != 0; }
  template <typename T>
  void Read(T* value) {
    *value = static_cast<T>(statement_->Int(next_++));
  }

  const Statement* statement_;
  int next_ = 0;
};

ModelRow ReadModel(const Statement& s) {
  ModelRow r;
  RowReader(&s).Into(&r.id, &r.path, &r.architecture, &r.n_layers, &r.d_model, &r.n_heads,
                     &r.d_head, &r.d_mlp, &r.d_vocab, &r.n_ctx, &r.n_parameters, &r.memory_bytes,
                     &r.has_tokenizer, &r.prepend_bos, &r.tokenizer_hash, &r.hash, &r.hook_names,
                     &r.tokenizer_kind, &r.has_chat_template, &r.source, &r.warnings,
                     &r.created_ms);
  return r;
}

SaeRow ReadSae(const Statement& s) {
  SaeRow r;
  RowReader(&s).Into(
      &r.id, &r.model_id, &r.path, &r.hook_name, &r.architecture, &r.d_in, &r.d_sae, &r.k,
      &r.apply_b_dec_to_input, &r.normalize_activations, &r.format, &r.context_size, &r.prepend_bos,
      &r.vectors_only, &r.memory_bytes, &r.hash, &r.training_job_id, &r.d_out, &r.hook_name_out,
      &r.main_file, &r.overrides, &r.file_dtype, &r.activation, &r.prepend_bos_known, &r.folds,
      &r.notes, &r.warnings, &r.center_writing_weights, &r.trained_on, &r.source, &r.created_ms);
  return r;
}

CorpusRow ReadCorpus(const Statement& s) {
  CorpusRow r;
  RowReader(&s).Into(&r.id, &r.model_id, &r.path, &r.context_size, &r.n_tokens, &r.n_documents,
                     &r.n_contexts, &r.prepend_bos, &r.hash, &r.tokenizer_hash,
                     &r.n_heldout_contexts, &r.n_heldout_tokens, &r.layout, &r.formats,
                     &r.created_ms);
  return r;
}

absl::Status NoSuch(absl::string_view kind, absl::string_view id) {
  return NotFound("no ", kind, " \"", id, "\"");
}

template <typename Row>
absl::StatusOr<Row> GetRow(Database* db, absl::string_view table, absl::string_view columns,
                           absl::string_view id, Row (*read)(const Statement&)) {
  ASSIGN_OR_RETURN(Statement select,
                   db->Prepare(absl::StrCat("SELECT ", columns, " FROM ", table, " WHERE id=?")));
  select.BindText(1, id);
  ASSIGN_OR_RETURN(const bool found, select.Step());
  if (!found) return NoSuch(table == "sae" ? "SAE" : table, id);
  return read(select);
}

template <typename Row>
absl::StatusOr<std::vector<Row>> ListRows(Database* db, absl::string_view table,
                                          absl::string_view columns,
                                          Row (*read)(const Statement&)) {
  ASSIGN_OR_RETURN(Statement select,
                   db->Prepare(absl::StrCat("SELECT ", columns, " FROM ", table, " ORDER BY id")));
  std::vector<Row> rows;
  ASSIGN_OR_RETURN(bool more, select.Step());
  while (more) {
    rows.push_back(read(select));
    ASSIGN_OR_RETURN(more, select.Step());
  }
  return rows;
}

absl::StatusOr<bool> Exists(Database* db, absl::string_view table, absl::string_view id) {
  ASSIGN_OR_RETURN(Statement select,
                   db->Prepare(absl::StrCat("SELECT 1 FROM ", table, " WHERE id=?")));
  select.BindText(1, id);
  return select.Step();
}

// A new row's id must be free, its model there.
absl::Status CheckNew(Database* db, absl::string_view table, absl::string_view kind,
                      absl::string_view id, absl::string_view model_id) {
  ASSIGN_OR_RETURN(const bool taken, Exists(db, table, id));
  if (taken) return AlreadyExists(kind, " \"", id, "\" exists");
  if (table == "model") return absl::OkStatus();
  ASSIGN_OR_RETURN(const bool has_model, Exists(db, "model", model_id));
  return has_model ? absl::OkStatus() : NoSuch("model", model_id);
}

// The ids that `sql` selects for the parameter, at most three of them named.
absl::StatusOr<std::string> Named(Database* db, absl::string_view sql,
                                  absl::string_view parameter) {
  ASSIGN_OR_RETURN(Statement select, db->Prepare(sql));
  select.BindText(1, parameter);
  std::vector<std::string> ids;
  ASSIGN_OR_RETURN(bool more, select.Step());
  while (more && ids.size() < 4) {
    ids.push_back(select.Text(0));
    ASSIGN_OR_RETURN(more, select.Step());
  }
  if (ids.size() > 3) ids.back() = "...";
  return absl::StrJoin(ids, ", ");
}

std::string Insert(absl::string_view table, absl::string_view columns) {
  const size_t n = absl::StrSplit(columns, ',').operator std::vector<std::string>().size();
  return absl::StrCat("INSERT INTO ", table, "(", columns, ") VALUES(",
                      absl::StrJoin(std::vector<std::string>(n, "?"), ","), ")");
}

int64_t WallMs() { return absl::ToUnixMillis(absl::Now()); }

}  // namespace

absl::Status StateDb::AddModel(const ModelRow& r) {
  RETURN_IF_ERROR(CheckId(r.id, "model id"));
  MutexLock lock(&write_mutex_);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(writer_.get()));
  RETURN_IF_ERROR(CheckNew(writer_.get(), "model", "model", r.id, ""));
  {
    ASSIGN_OR_RETURN(Statement insert, writer_->Prepare(Insert("model", kModelColumns)));
    Binder(&insert)
        .Text(r.id)
        .Text(r.path)
        .Text(r.architecture)
        .Int(r.n_layers)
        .Int(r.d_model)
        .Int(r.n_heads)
        .Int(r.d_head)
        .Int(r.d_mlp)
        .Int(r.d_vocab)
        .Int(r.n_ctx)
        .Int(r.n_parameters)
        .Int(r.memory_bytes)
        .Int(r.has_tokenizer)
        .Int(r.prepend_bos)
        .Text(r.tokenizer_hash)
        .Text(r.hash)
        .Lines(r.hook_names)
        .Text(r.tokenizer_kind)
        .Int(r.has_chat_template)
        .Text(r.source)
        .Lines(r.warnings)
        .Int(WallMs());
    RETURN_IF_ERROR(insert.Run());
  }
  return transaction.Commit();
}

absl::Status StateDb::AddSae(const SaeRow& r) {
  RETURN_IF_ERROR(CheckId(r.id, "SAE id"));
  MutexLock lock(&write_mutex_);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(writer_.get()));
  RETURN_IF_ERROR(CheckNew(writer_.get(), "sae", "SAE", r.id, r.model_id));
  {
    ASSIGN_OR_RETURN(Statement insert, writer_->Prepare(Insert("sae", kSaeColumns)));
    Binder(&insert)
        .Text(r.id)
        .Text(r.model_id)
        .Text(r.path)
        .Text(r.hook_name)
        .Text(r.architecture)
        .Int(r.d_in)
        .Int(r.d_sae)
        .Int(r.k)
        .Int(r.apply_b_dec_to_input)
        .Text(r.normalize_activations)
        .Text(r.format)
        .Int(r.context_size)
        .Int(r.prepend_bos)
        .Int(r.vectors_only)
        .Int(r.memory_bytes)
        .Text(r.hash)
        .Text(r.training_job_id)
        .Int(r.d_out)
        .Text(r.hook_name_out)
        .Text(r.main_file)
        .Text(r.overrides)
        .Text(r.file_dtype)
        .Text(r.activation)
        .Int(r.prepend_bos_known)
        .Lines(r.folds)
        .Lines(r.notes)
        .Lines(r.warnings)
        .Int(r.center_writing_weights)
        .Text(r.trained_on)
        .Text(r.source)
        .Int(WallMs());
    RETURN_IF_ERROR(insert.Run());
  }
  return transaction.Commit();
}

absl::Status StateDb::AddCorpus(const CorpusRow& r) {
  RETURN_IF_ERROR(CheckId(r.id, "corpus id"));
  MutexLock lock(&write_mutex_);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(writer_.get()));
  RETURN_IF_ERROR(CheckNew(writer_.get(), "corpus", "corpus", r.id, r.model_id));
  {
    ASSIGN_OR_RETURN(Statement insert, writer_->Prepare(Insert("corpus", kCorpusColumns)));
    Binder(&insert)
        .Text(r.id)
        .Text(r.model_id)
        .Text(r.path)
        .Int(r.context_size)
        .Int(r.n_tokens)
        .Int(r.n_documents)
        .Int(r.n_contexts)
        .Int(r.prepend_bos)
        .Text(r.hash)
        .Text(r.tokenizer_hash)
        .Int(r.n_heldout_contexts)
        .Int(r.n_heldout_tokens)
        .Text(r.layout)
        .Lines(r.formats)
        .Int(WallMs());
    RETURN_IF_ERROR(insert.Run());
  }
  return transaction.Commit();
}

absl::StatusOr<ModelRow> StateDb::GetModel(absl::string_view id) const {
  MutexLock lock(&read_mutex_);
  return GetRow(reader_.get(), "model", kModelColumns, id, ReadModel);
}

absl::StatusOr<SaeRow> StateDb::GetSae(absl::string_view id) const {
  MutexLock lock(&read_mutex_);
  return GetRow(reader_.get(), "sae", kSaeColumns, id, ReadSae);
}

absl::StatusOr<CorpusRow> StateDb::GetCorpus(absl::string_view id) const {
  MutexLock lock(&read_mutex_);
  return GetRow(reader_.get(), "corpus", kCorpusColumns, id, ReadCorpus);
}

absl::StatusOr<std::vector<ModelRow>> StateDb::ListModels() const {
  MutexLock lock(&read_mutex_);
  return ListRows(reader_.get(), "model", kModelColumns, ReadModel);
}

absl::StatusOr<std::vector<SaeRow>> StateDb::ListSaes() const {
  MutexLock lock(&read_mutex_);
  return ListRows(reader_.get(), "sae", kSaeColumns, ReadSae);
}

absl::StatusOr<std::vector<CorpusRow>> StateDb::ListCorpora() const {
  MutexLock lock(&read_mutex_);
  return ListRows(reader_.get(), "corpus", kCorpusColumns, ReadCorpus);
}

absl::Status StateDb::DeleteModel(absl::string_view id) { return Delete("model", id); }
absl::Status StateDb::DeleteSae(absl::string_view id) { return Delete("sae", id); }
absl::Status StateDb::DeleteCorpus(absl::string_view id) { return Delete("corpus", id); }

absl::Status StateDb::Delete(absl::string_view table, absl::string_view id) {
  const absl::string_view kind = table == "sae" ? "SAE" : table;
  MutexLock lock(&write_mutex_);
  Database* db = writer_.get();
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(db));
  ASSIGN_OR_RETURN(const bool exists, Exists(db, table, id));
  if (!exists) return NoSuch(kind, id);

  const auto needed_by = [&](absl::string_view what, const std::string& names) {
    return FailedPrecondition(kind, " \"", id, "\" is needed by ", what, " ", names);
  };
  if (table == "model") {
    ASSIGN_OR_RETURN(const std::string saes,
                     Named(db, "SELECT id FROM sae WHERE model_id=? ORDER BY id LIMIT 4", id));
    if (!saes.empty()) return needed_by("SAE", saes);
    ASSIGN_OR_RETURN(const std::string corpora,
                     Named(db, "SELECT id FROM corpus WHERE model_id=? ORDER BY id LIMIT 4", id));
    if (!corpora.empty()) return needed_by("corpus", corpora);
  }
  ASSIGN_OR_RETURN(
      const std::string jobs,
      Named(db,
            "SELECT job.id FROM job_use JOIN job ON job.id = job_use.job_id WHERE resource=? AND "
            "state IN ('queued', 'running', 'paused') ORDER BY job.id LIMIT 4",
            absl::StrCat(table, ":", id)));
  if (!jobs.empty()) return needed_by("job", jobs);
  {
    ASSIGN_OR_RETURN(Statement remove,
                     db->Prepare(absl::StrCat("DELETE FROM ", table, " WHERE id=?")));
    RETURN_IF_ERROR(remove.BindText(1, id).Run());
  }
  return transaction.Commit();
}

}  // namespace featurescope
