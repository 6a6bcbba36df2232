/* A VMM of one vCPU whose guest faults; the argument says how: unmap, efault or emulate.
   The interface: Linux Documentation/virt/kvm/api.rst. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RAM = 64 << 20, PAGE = 32 << 20, NOTHING = 0xfe003000, THREADS = 3, TURNS = 30, SECONDS = 4 };

static char *ram;
static volatile int over;

/* Takes the guest's memory away as fast as the kernel lets it. */
static void *unmap(void *unused) {
  time_t end = time(0) + SECONDS;
  while (!over && time(0) < end)
    madvise(ram + (16 << 20), RAM - (16 << 20), MADV_FREE);
  return unused;
}

int main(int argc, char **argv) {
  const char *how = argc > 1 ? argv[1] : "";
  int kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0);
  if (kvm < 0 || vm < 0)
    return perror("kvm"), 1;
  ram = mmap(0, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  madvise(ram, RAM, MADV_NOHUGEPAGE);
  memset(ram, 0, RAM);
  struct kvm_userspace_memory_region region = {.memory_size = RAM, .userspace_addr = (unsigned long)ram};
  ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
  int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  struct kvm_run *run = mmap(0, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

  /* flat 32-bit code at 0x1000 */
  struct kvm_sregs sregs;
  struct kvm_regs regs = {.rip = 0x1000, .rflags = 2, .rbx = PAGE};
  struct kvm_segment flat = {.limit = 0xffffffff, .present = 1, .db = 1, .s = 1, .g = 1, .selector = 8, .type = 11};
  ioctl(vcpu, KVM_GET_SREGS, &sregs);
  sregs.cr0 |= 1;
  sregs.cs = flat;
  flat.type = 3, flat.selector = 16;
  sregs.ds = sregs.es = sregs.ss = flat;
  if (!strcmp(how, "emulate")) {
    regs.rbx = NOTHING;
    sregs.cr4 |= 0x600;                              /* OSFXSR, OSXMMEXCPT */
    memcpy(ram + 0x1000, "\x0f\x58\x03\xf4", 4);     /* addps (%ebx),%xmm0; hlt */
  } else {
    memcpy(ram + 0x1000, "\xc6\x03\x01\xf4", 4);     /* movb $1,(%ebx); hlt */
  }
  ioctl(vcpu, KVM_SET_SREGS, &sregs);
  ioctl(vcpu, KVM_SET_REGS, &regs);

  pthread_t thread;
  if (!strcmp(how, "efault"))
    mprotect(ram + PAGE, 4096, PROT_NONE);
  for (int n = 0; n < THREADS && !strcmp(how, "unmap"); n++)
    pthread_create(&thread, 0, unmap, 0);
  for (int turn = 0; turn < TURNS; turn++) {
    int ret = ioctl(vcpu, KVM_RUN, 0);
    printf("run %d errno %d exit %d suberror %d\n", ret, ret ? errno : 0, run->exit_reason, run->internal.suberror);
    if (!ret)
      break;
  }
  over = 1;
  return 0;
}
