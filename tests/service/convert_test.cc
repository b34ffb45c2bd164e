#include "server/service/convert.h"

#include <google/protobuf/util/message_differencer.h>

#include "gtest/gtest.h"

namespace featurescope {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Sets every field of a message without sub-messages to something that is not its default.
void FillEveryField(Message* message) {
  const auto* reflection = message->GetReflection();
  for (int i = 0; i < message->GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->field(i);
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        reflection->SetString(message, field, "text-" + field->name());
        break;
      case FieldDescriptor::CPPTYPE_UINT32:
        reflection->SetUInt32(message, field, static_cast<uint32_t>(100 + i));
        break;
      case FieldDescriptor::CPPTYPE_UINT64:
        reflection->SetUInt64(message, field, static_cast<uint64_t>(1000 + i));
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        reflection->SetDouble(message, field, 0.5 + i);
        break;
      default:
        FAIL() << "a field of a type that this test does not know: " << field->full_name();
    }
  }
}

TEST(ConvertTest, EveryFieldOfAnIndexingSpecSurvivesBothWays) {
  v1::IndexingSpec spec;
  FillEveryField(&spec);
  v1::IndexingSpec back;
  ToProto(FromProto(spec), &back);
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(spec, back));
}

TEST(ConvertTest, ZerosOfAnIndexingSpecMeanTheDefaults) {
  const IndexingJob job = FromProto(v1::IndexingSpec());
  EXPECT_EQ(job.indexing.top_examples, IndexSpec().top_examples);
  EXPECT_EQ(job.indexing.bands, IndexSpec().bands);
  EXPECT_EQ(job.indexing.window, IndexSpec().window);
}

TEST(ConvertTest, EveryJobStateHasItsName) {
  for (int state = v1::JobState_MIN + 1; state <= v1::JobState_MAX; ++state) {
    absl::StatusOr<JobState> core = FromProto(static_cast<v1::JobState>(state));
    ASSERT_TRUE(core.ok()) << state;
    JobRow row;
    row.state = *core;
    v1::Job job;
    ASSERT_TRUE(ToProto(row, &job).ok());
    EXPECT_EQ(job.state(), state);
  }
  EXPECT_FALSE(FromProto(static_cast<v1::JobState>(99)).ok());
}

TEST(ConvertTest, UnknownEnumeratorsOfAnInterventionAreRefusedByField) {
  v1::Intervention intervention;
  EXPECT_FALSE(FromProto(intervention, "interventions[0]").ok()) << "no operation";
  intervention.set_operation(v1::ADD);
  EXPECT_TRUE(FromProto(intervention, "interventions[0]").ok());
  intervention.set_unit(static_cast<v1::Unit>(77));
  const absl::Status status = FromProto(intervention, "interventions[0]").status();
  EXPECT_NE(status.message().find("interventions[0].unit is 77"), absl::string_view::npos)
      << status;
}

TEST(ConvertTest, TokenIdsAndTextsStayWhatTheyAre) {
  v1::TextInput input;
  input.set_text(std::string("a\0\xff", 3));
  EXPECT_EQ(std::get<std::string>(FromProto(input).input), std::string("a\0\xff", 3));
  input.mutable_token_ids()->add_ids(7);
  EXPECT_EQ(std::get<std::vector<uint32_t>>(FromProto(input).input), std::vector<uint32_t>{7});
}

TEST(ConvertTest, TimestampsAreRfc3339InUtc) {
  EXPECT_EQ(FormatTimestamp(0), "");
  EXPECT_EQ(FormatTimestamp(1'600'000'000'000), "2020-09-13T12:26:40Z");
}

}  // namespace
}  // namespace featurescope
