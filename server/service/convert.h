// Between the contract's messages and the core's structs. No logic beyond that. Training's
// specifications are in training_spec.h.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "featurescope/v1/catalog.pb.h"
#include "featurescope/v1/explore.pb.h"
#include "featurescope/v1/features.pb.h"
#include "featurescope/v1/jobs.pb.h"
#include "server/catalog/catalog.h"
#include "server/explore/activations.h"
#include "server/explore/check_sae.h"
#include "server/explore/generate.h"
#include "server/explore/text_input.h"
#include "server/hub/sae_releases.h"
#include "server/jobs/caching_job.h"
#include "server/jobs/evaluation_job.h"
#include "server/jobs/spec_json.h"
#include "server/store/index_db.h"
#include "server/store/state_db.h"
#include "server/text/chat_template.h"

namespace featurescope {

// RFC 3339 in UTC; empty for 0.
std::string FormatTimestamp(int64_t ms_since_1970);

void ToProto(const ModelRow& row, bool loaded, absl::string_view dtype, v1::Model* out);
void ToProto(const SaeRow& row, v1::Sae* out);
void ToProto(const CorpusRow& row, v1::Corpus* out);
void ToProto(const CorpusBuildProgress& progress, v1::AddCorpusResponse* out);
void ToProto(const CorpusSummary& summary, v1::AddCorpusResponse* out);
void ToProto(const Token& token, v1::Token* out);
void ToProto(const TokenRow& token, v1::Token* out);
void ToProto(const SparseActivations& acts, v1::SparseRows* out);
void ToProto(const SaeActivations& acts, v1::SaeActivations* out);
void ToProto(const SaeCheck& check, v1::CheckSaeResponse* out);
void ToProto(const SaeRelease& release, v1::SaeRelease* out);
void ToProto(const MetricRow& row, v1::MetricPoint* out);
void ToProto(const HistogramRow& row, v1::Histogram* out);
void ToProto(const IndexInfoRow& row, v1::IndexInfo* out);
// errors  Internal  the stored specification cannot be read
absl::Status ToProto(const JobRow& row, v1::Job* out);
void ToProto(const GenerateEvent& event, const v1::GenerateRequest& request,
             v1::GenerateResponse* out);
void ToProto(const IndexingJob& job, v1::IndexingSpec* out);
void ToProto(const ImportJob& job, v1::ImportSpec* out);
void ToProto(const EvaluationJob& job, v1::EvaluationSpec* out);
// errors  Internal or InvalidArgument  what is stored cannot be read
absl::Status ToProto(const EvaluationRow& row, v1::Evaluation* out);
void ToProto(const MetricDefinition& definition, v1::MetricDefinition* out);
void ToProto(const CachingJob& job, v1::CachingSpec* out);
void ToProto(const ActivationCacheEntry& entry, v1::ActivationCache* out);

TextInput FromProto(const v1::TextInput& input);
SparseActivations FromProto(const v1::SparseRows& rows);
std::vector<ChatMessage> FromProto(
    const google::protobuf::RepeatedPtrField<v1::ChatMessage>& messages);
SamplingOptions FromProto(const v1::Sampling& sampling);
IndexingJob FromProto(const v1::IndexingSpec& spec);
// errors  InvalidArgument  an unknown dtype
absl::StatusOr<CachingJob> FromProto(const v1::CachingSpec& spec);
// errors  InvalidArgument  an unknown part
absl::StatusOr<EvaluationJob> FromProto(const v1::EvaluationSpec& spec);
// errors  InvalidArgument  neither a model nor an SAE
absl::StatusOr<ImportJob> FromProto(const v1::ImportSpec& spec);
// Without origin.   errors  InvalidArgument  an unknown name
absl::StatusOr<AddSaeOptions> FromProto(const v1::AddSaeRequest& request);
absl::StatusOr<AddCorpusOptions> FromProto(const v1::AddCorpusRequest& request);
absl::StatusOr<JobState> FromProto(v1::JobState state);
// Without the SAE, which the caller looks up, and the unit's size.
//   errors  InvalidArgument  an unknown enumerator; `name` is what the message calls the edit
absl::StatusOr<Intervention> FromProto(const v1::Intervention& intervention,
                                       absl::string_view name);

}  // namespace featurescope
