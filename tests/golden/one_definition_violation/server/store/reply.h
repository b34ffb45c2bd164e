// Two classes of one name, for the check that must find them.
class Reply : public Base {
 public:
  ~Reply();
};
