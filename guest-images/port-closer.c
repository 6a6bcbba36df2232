// SPDX-License-Identifier: GPL-2.0
/*
 * port-closer - has igb close its port on every error, as ixgbe does, whose driver wrote the log of the report.
 *
 * igb asks whether the channel is offline and then leaves the card alone, and does nothing at all about a non-fatal error.
 * This module takes the place of its error_detected(): it tells each VF, takes it off the wire, resets the MAC, which sets
 * the reset bits that VFs poll, takes `msecs` for it, and then lets igb go on as after a fatal error (slot_reset, resume).
 *
 * Registers: Linux drivers/net/ethernet/intel/igb/e1000_regs.h and e1000_mbx.h.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>

#define CTRL 0x00000
#define CTRL_RST (1 << 26)
#define VMBMEM(vf) (0x00800 + 64 * (vf))
#define P2VMAILBOX(vf) (0x00C00 + 4 * (vf))
#define VFRE 0x00C8C
#define VFTE 0x00C90
#define MAILBOX_STS 0x1 /* there is a message for the VF */
#define MAILBOX_PFU 0x8 /* the PF has the buffer */
#define PF_CONTROL_MSG 0x0100 /* without the flag that says "clear to send": the PF is going away */
#define REGISTERS 0x20000

static int msecs = 65; /* the report's log has 65 ms from one function to the next */
module_param(msecs, int, 0644);
MODULE_PARM_DESC(msecs, "milliseconds that the closing of one port takes");

static struct pci_driver *igb;
static const struct pci_error_handlers *own;
static struct pci_error_handlers closing;

static void close_port(struct pci_dev *pdev)
{
	void __iomem *registers = ioremap(pci_resource_start(pdev, 0), REGISTERS);
	int vf;

	if (!registers)
		return;
	for (vf = 0; vf < pci_num_vf(pdev); vf++) {
		writel(MAILBOX_PFU, registers + P2VMAILBOX(vf));
		writel(PF_CONTROL_MSG, registers + VMBMEM(vf));
		writel(MAILBOX_STS, registers + P2VMAILBOX(vf));
	}
	writel(0, registers + VFRE);
	writel(0, registers + VFTE);
	writel(readl(registers + CTRL) | CTRL_RST, registers + CTRL);
	iounmap(registers);
}

static pci_ers_result_t error_detected(struct pci_dev *pdev, pci_channel_state_t state)
{
	pci_info(pdev, "port-closer: error detected, closing the port\n");
	close_port(pdev);
	msleep(msecs);
	pci_info(pdev, "port-closer: the port is closed\n");
	return own->error_detected(pdev, pci_channel_io_frozen);
}

static int __init begin(void)
{
	struct device_driver *driver = driver_find("igb", &pci_bus_type);

	if (!driver)
		return -ENODEV;
	igb = to_pci_driver(driver);
	own = igb->err_handler;
	closing = *own;
	closing.error_detected = error_detected;
	igb->err_handler = &closing;
	return 0;
}

static void __exit end(void)
{
	igb->err_handler = own;
}

module_init(begin);
module_exit(end);
MODULE_DESCRIPTION("has igb close its port on every PCIe error");
MODULE_LICENSE("GPL");
