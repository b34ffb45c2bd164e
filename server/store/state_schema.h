// The schema of state.db, as numbered steps. A released step never changes; a change is a new step.
#pragma once

#include "server/store/database.h"

namespace featurescope {

constexpr int32_t kStateApplicationId = 0x46735374;  // "FsSt"

constexpr Migration kStateMigrations[] = {
    {R"sql(
CREATE TABLE model(
  id TEXT PRIMARY KEY, path TEXT NOT NULL, architecture TEXT NOT NULL, n_layers INTEGER NOT NULL,
  d_model INTEGER NOT NULL, n_heads INTEGER NOT NULL, d_head INTEGER NOT NULL,
  d_mlp INTEGER NOT NULL, d_vocab INTEGER NOT NULL, n_ctx INTEGER NOT NULL,
  n_parameters INTEGER NOT NULL, memory_bytes INTEGER NOT NULL, has_tokenizer INTEGER NOT NULL,
  prepend_bos INTEGER NOT NULL, tokenizer_hash TEXT NOT NULL, hash TEXT NOT NULL,
  hook_names TEXT NOT NULL,  -- one a line
  created_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE sae(
  id TEXT PRIMARY KEY, model_id TEXT NOT NULL REFERENCES model(id), path TEXT NOT NULL,
  hook_name TEXT NOT NULL, architecture TEXT NOT NULL, d_in INTEGER NOT NULL,
  d_sae INTEGER NOT NULL, k INTEGER NOT NULL, apply_b_dec_to_input INTEGER NOT NULL,
  normalize_activations TEXT NOT NULL, format TEXT NOT NULL, context_size INTEGER NOT NULL,
  prepend_bos INTEGER NOT NULL, vectors_only INTEGER NOT NULL, memory_bytes INTEGER NOT NULL,
  hash TEXT NOT NULL, training_job_id TEXT NOT NULL, created_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX sae_by_model ON sae(model_id);

CREATE TABLE corpus(
  id TEXT PRIMARY KEY, model_id TEXT NOT NULL REFERENCES model(id), path TEXT NOT NULL,
  context_size INTEGER NOT NULL, n_tokens INTEGER NOT NULL, n_documents INTEGER NOT NULL,
  n_contexts INTEGER NOT NULL, prepend_bos INTEGER NOT NULL, hash TEXT NOT NULL,
  tokenizer_hash TEXT NOT NULL, created_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX corpus_by_model ON corpus(model_id);

CREATE TABLE job(
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, spec TEXT NOT NULL, target TEXT NOT NULL,
  idempotency_key TEXT UNIQUE,
  state TEXT NOT NULL
    CHECK(state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'paused')),
  progress REAL NOT NULL DEFAULT 0, phase TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '',
  created_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL DEFAULT 0,
  finished_ms INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 0,
  crashes INTEGER NOT NULL DEFAULT 0, crash_progress REAL NOT NULL DEFAULT -1,
  best_progress REAL NOT NULL DEFAULT 0, cancel_requested INTEGER NOT NULL DEFAULT 0,
  lease_epoch INTEGER NOT NULL DEFAULT 0, lease_expires_ms INTEGER NOT NULL DEFAULT 0,
  tokens_done INTEGER NOT NULL DEFAULT 0, tokens_per_second REAL NOT NULL DEFAULT 0,
  eta_seconds REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX job_by_state ON job(state, id);
CREATE UNIQUE INDEX job_one_per_target ON job(target)
  WHERE target <> '' AND state IN ('queued', 'running', 'paused');

CREATE TABLE job_use(
  job_id TEXT NOT NULL REFERENCES job(id) ON DELETE CASCADE, resource TEXT NOT NULL,
  PRIMARY KEY(job_id, resource)
) WITHOUT ROWID;
CREATE INDEX job_use_by_resource ON job_use(resource);

CREATE TABLE metric(
  job_id TEXT NOT NULL REFERENCES job(id) ON DELETE CASCADE, step INTEGER NOT NULL,
  tokens INTEGER NOT NULL, metric_values TEXT NOT NULL,  -- "name=value", one a line
  PRIMARY KEY(job_id, step)
) WITHOUT ROWID;
)sql"},
    {R"sql(
ALTER TABLE model ADD COLUMN tokenizer_kind TEXT NOT NULL DEFAULT '';
ALTER TABLE model ADD COLUMN has_chat_template INTEGER NOT NULL DEFAULT 0;
ALTER TABLE model ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE model ADD COLUMN warnings TEXT NOT NULL DEFAULT '';  -- one a line

ALTER TABLE sae ADD COLUMN d_out INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sae ADD COLUMN hook_name_out TEXT NOT NULL DEFAULT '';
ALTER TABLE sae ADD COLUMN main_file TEXT NOT NULL DEFAULT '';
ALTER TABLE sae ADD COLUMN overrides TEXT NOT NULL DEFAULT '';
ALTER TABLE sae ADD COLUMN file_dtype TEXT NOT NULL DEFAULT '';
ALTER TABLE sae ADD COLUMN activation TEXT NOT NULL DEFAULT '';
ALTER TABLE sae ADD COLUMN prepend_bos_known INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sae ADD COLUMN folds TEXT NOT NULL DEFAULT '';     -- one a line
ALTER TABLE sae ADD COLUMN notes TEXT NOT NULL DEFAULT '';     -- one a line
ALTER TABLE sae ADD COLUMN warnings TEXT NOT NULL DEFAULT '';  -- one a line
ALTER TABLE sae ADD COLUMN center_writing_weights INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sae ADD COLUMN trained_on TEXT NOT NULL DEFAULT '';
ALTER TABLE sae ADD COLUMN source TEXT NOT NULL DEFAULT '';
UPDATE sae SET d_out = d_in, hook_name_out = hook_name;

ALTER TABLE corpus ADD COLUMN n_heldout_contexts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE corpus ADD COLUMN n_heldout_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE corpus ADD COLUMN layout TEXT NOT NULL DEFAULT 'packed';
ALTER TABLE corpus ADD COLUMN formats TEXT NOT NULL DEFAULT '';  -- one a line

ALTER TABLE job ADD COLUMN bytes_done INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN bytes_total INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN bytes_per_second REAL NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN files_done INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN files_total INTEGER NOT NULL DEFAULT 0;
)sql"},
    {R"sql(
CREATE TABLE evaluation(
  job_id TEXT PRIMARY KEY REFERENCES job(id), sae_id TEXT NOT NULL
    REFERENCES sae(id) ON DELETE CASCADE,
  corpus_id TEXT NOT NULL, spec TEXT NOT NULL, result TEXT NOT NULL, created_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX evaluation_by_sae ON evaluation(sae_id);
)sql"},
};

}  // namespace featurescope
