// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LedgerTypes} from "../src/LedgerTypes.sol";
import {Erc3009Collector} from "../src/collectors/Erc3009Collector.sol";
import {Market} from "./kit/Market.sol";

/// What calls cost as transactions of their own, in steady use: every slot that they touch has been written before.
/// The figures go to snapshots/Gas.json; a call that costs more than 2 % above its budget fails.
///
/// forge-config: default.isolate = true
/// forge-config: release.isolate = true
contract GasTest is Market {
    uint256 private constant RENTERS = 100;
    uint256 private constant PROVIDERS = 8;
    uint256 private constant PAYER_SECRET = 0xBA7E8;

    uint32[PROVIDERS] private _providers;

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < PROVIDERS; ++i) {
            _providers[i] = ledger.addPayee(address(uint160(0x1000 + i)));
        }
        for (uint256 i = 0; i < RENTERS; ++i) {
            _fund(_secret(i), 1e12);
        }
        _settle(_batch(RENTERS, 1, 0));
    }

    function test_settle1x1() public {
        _measure(1, 1, 64_000);
    }

    function test_settle100x1() public {
        _measure(100, 1, 17_300);
    }

    function test_settle100x10() public {
        _measure(100, 10, 3500);
    }

    function test_settle50x100() public {
        _measure(50, 100, 1780);
    }

    function test_settle1x1000() public {
        _measure(1, 1000, 1370);
    }

    function test_settleReserved() public {
        bytes memory statement = _batch(1, 1, 1);
        LedgerTypes.Reservation memory reservation = _reservation(vm.addr(_secret(0)), 1, 2e6);

        ledger.settleReserved(statement, reservation);

        _keep("settleReserved", 1, 69_000);
    }

    function test_collect() public {
        _settle(_batch(1, 1, 1));
        ledger.collect(verifier);
        _settle(_batch(1, 1, 2));

        ledger.collect(verifier);

        _keep("collect", 1, 60_000);
    }

    function test_depositByErc3009() public {
        Erc3009Collector collector = new Erc3009Collector(ledger);
        Erc3009Collector.Authorization memory first = _authorization(collector, "first");
        Erc3009Collector.Authorization memory second = _authorization(collector, "second");
        collector.deposit(vm.addr(_secret(0)), first);

        collector.deposit(vm.addr(_secret(0)), second);

        _keep("deposit by EIP-3009", 1, 135_000);
    }

    function _measure(uint256 statements, uint256 lines, uint256 budget) private {
        bytes memory batch = _batch(statements, lines, 1);
        vm.prank(operator);
        (uint256 paid, uint256 skipped) = ledger.settle(coordinator, batch);
        _keep(string.concat("settle ", vm.toString(statements), "x", vm.toString(lines)), statements * lines, budget);
        vm.assertEq(skipped, 0);
        vm.assertEq(paid, _each(lines) * statements * lines);
    }

    function _keep(string memory name, uint256 jobs, uint256 budget) private {
        uint256 used = vm.snapshotGasLastCall("Gas", name);
        vm.assertGe(budget * 102 / 100, used / jobs, string.concat(name, " is over its budget"));
    }

    /// Each renter's statement pays one provider; neighbours share providers, as an ordered batch has them.
    function _batch(uint256 statements, uint256 lines, uint32 nonce) private view returns (bytes memory batch) {
        for (uint256 i = 0; i < statements; ++i) {
            bytes memory paid = "";
            for (uint256 j = 0; j < lines; ++j) {
                paid = bytes.concat(
                    paid, _line(_providers[i * PROVIDERS / statements], verifier, recipe, uint96(_each(lines)))
                );
            }
            batch = bytes.concat(batch, _statement(_secret(i), nonce, FAR, paid));
        }
    }

    function _each(uint256 lines) private pure returns (uint256) {
        return 1_234_567 / lines;
    }

    function _authorization(Erc3009Collector collector, bytes32 salt)
        private
        returns (Erc3009Collector.Authorization memory by)
    {
        (by.from, by.value, by.validBefore, by.salt) = (vm.addr(PAYER_SECRET), 25e6, NOW + 1 hours, salt);
        token.mint(by.from, 2 * by.value);
        bytes32 kind = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 nonce = keccak256(abi.encode(vm.addr(_secret(0)), salt));
        bytes32 structHash =
            keccak256(abi.encode(kind, by.from, address(collector), by.value, by.validAfter, by.validBefore, nonce));
        (by.v, by.r, by.s) = vm.sign(PAYER_SECRET, _digest(address(token), "Test USD", structHash));
    }

    function _secret(uint256 i) private pure returns (uint256) {
        return 0xA000 + i;
    }
}
